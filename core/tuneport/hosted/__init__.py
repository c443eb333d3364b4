"""For backends over HTTP: describe a service, write its calls, and `HostedBackend` does the rest.

Nothing is imported before it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneport.doors import HOSTED, lazy

if TYPE_CHECKING:
    from tuneport.contract.hosting import Hosting
    from tuneport.hosted.backend import HostedBackend
    from tuneport.hosted.chat import ask_openai_wire, stream_openai_wire
    from tuneport.hosted.endpoint import Endpoint, Limits
    from tuneport.hosted.hosting import Deployments
    from tuneport.hosted.http import Http
    from tuneport.hosted.job import HostedJob
    from tuneport.hosted.model import HostedModel
    from tuneport.hosted.proof import ClientId, Label, Proof, Scan, Token
    from tuneport.hosted.refusals import InDoubt, Refused, RefusedAddress, RefusedName, Unsent
    from tuneport.hosted.reports import Belonging, DataFile, Entry, Report, Start
    from tuneport.hosted.results import fetch_adapter, fetch_metrics, read_metrics
    from tuneport.hosted.service import Service, openai_row, parse_time
    from tuneport.hosted.settings import DeployedSettings, HostedSettings

_EXPORTS = {
    "contract.hosting": "Hosting",
    "hosted.backend": "HostedBackend",
    "hosted.chat": "ask_openai_wire stream_openai_wire",
    "hosted.endpoint": "Endpoint Limits",
    "hosted.hosting": "Deployments",
    "hosted.http": "Http",
    "hosted.job": "HostedJob",
    "hosted.model": "HostedModel",
    "hosted.proof": "ClientId Label Proof Scan Token",
    "hosted.refusals": "InDoubt Refused RefusedAddress RefusedName Unsent",
    "hosted.reports": "Belonging DataFile Entry Report Start",
    "hosted.results": "fetch_adapter fetch_metrics read_metrics",
    "hosted.service": "Service openai_row parse_time",
    "hosted.settings": "DeployedSettings HostedSettings",
}

__all__ = [
    "Belonging",
    "ClientId",
    "DataFile",
    "DeployedSettings",
    "Deployments",
    "Endpoint",
    "Entry",
    "HostedBackend",
    "HostedJob",
    "HostedModel",
    "HostedSettings",
    "Hosting",
    "Http",
    "InDoubt",
    "Label",
    "Limits",
    "Proof",
    "Refused",
    "RefusedAddress",
    "RefusedName",
    "Report",
    "Scan",
    "Service",
    "Start",
    "Token",
    "Unsent",
    "ask_openai_wire",
    "fetch_adapter",
    "fetch_metrics",
    "openai_row",
    "parse_time",
    "read_metrics",
    "stream_openai_wire",
]

if not TYPE_CHECKING:  # a type checker that saw it would take every name for one of ours
    __getattr__ = lazy(HOSTED, _EXPORTS)


def __dir__() -> list[str]:
    return sorted(__all__)

"""Settings that every hosted backend has."""

from __future__ import annotations

from pydantic import Field

from tuneport.contract.settings import Settings
from tuneport.doors import HOSTED, public


@public(HOSTED)
class HostedSettings(Settings):
    """Subclass it for the settings of a service."""

    usd_per_million_tokens: float | None = Field(
        default=None,
        ge=0,
        description="What a million training tokens cost you, for plans and budgets. null: the plugin's dated table.",
    )


@public(HOSTED)
class DeployedSettings(HostedSettings):
    """For a service whose tuned models answer only while they are deployed."""

    deploy: bool = Field(
        default=False,
        description="Deploy the tuned model when it is first asked, which is billed until it stops by itself or until "
        "you run `tuneport hosting stop REF`. Otherwise run `tuneport hosting start REF`.",
    )

"""Responses of network services: limited in size and time, and free of our secrets, before other code reads them."""

from tuneport.services.cleaning import clean, replace_surrogates
from tuneport.services.proxies import check_proxies
from tuneport.services.secrets import Redactor
from tuneport.services.transport import ResponseLimits, guard

__all__ = ["Redactor", "ResponseLimits", "check_proxies", "clean", "guard", "replace_surrogates"]

"""What a service on the network sends: bounded in size and time, and without our secrets, before anything reads it."""

from tuneport.services.cleaning import clean, unpaired
from tuneport.services.proxies import check_proxies
from tuneport.services.secrets import Redactor
from tuneport.services.transport import Limits, guard

__all__ = ["Limits", "Redactor", "check_proxies", "clean", "guard", "unpaired"]

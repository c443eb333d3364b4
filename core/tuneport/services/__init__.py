"""What a service on the network sends: bounded in size and time, and without our secrets, before anything reads it."""

from tuneport.services.cleaning import clean, unpaired
from tuneport.services.secrets import Redactor
from tuneport.services.transport import Limits, guard

__all__ = ["Limits", "Redactor", "clean", "guard", "unpaired"]

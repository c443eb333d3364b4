"""The files that are uploaded: written here once, named by the SHA-256 of their bytes, uploaded once."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from itertools import batched
from pathlib import Path
from typing import TYPE_CHECKING

from tuneport.dataset import Conversation, Preference
from tuneport.errors import BackendError, TuneportError, UsageError
from tuneport.hosted.refusals import InDoubt, Refused, Unsent
from tuneport.hosted.words import DataFile

if TYPE_CHECKING:
    from tuneport.dataset import DataProfile, Dataset, Example
    from tuneport.hosted.http import Http
    from tuneport.hosted.service import Service
    from tuneport.hosted.words import Start

_BATCH = 256
_SENDS = 3

"""What vendors have announced about closing."""

from __future__ import annotations

from datetime import UTC, date, datetime

from tuneport.plugin import alternatives
from tuneport_openai.wire.profiles import Profile

OPENAI_NEW_REFUSED = date(2026, 5, 7)
OPENAI_ENDS = date(2027, 1, 6)
AZURE_PROMISED = date(2027, 4, 14)


def announcement(profile: Profile, today: date | None = None) -> str:
    """What the vendor has announced about ending fine-tuning, as of November 2026; empty where nothing is known."""
    if profile.vendor == "azure":
        return (
            f"Azure promises training on the gpt-4.1 family to existing customers until {day(AZURE_PROMISED)} at least"
        )
    if profile.vendor != "openai":
        return ""
    if has_closed(profile, today):
        return f"OpenAI ended the creation of fine-tuning jobs for everybody on {day(OPENAI_ENDS)}"
    return (
        f"OpenAI has refused new organizations since {day(OPENAI_NEW_REFUSED)}, and ends the creation of "
        f"fine-tuning jobs for everybody on {day(OPENAI_ENDS)}"
    )


def note(profile: Profile, method: str = "sft") -> str:
    """The announcement in sentences, with the backends here that could run the same config; empty without one."""
    text = announcement(profile)
    return f"{text}. {elsewhere(profile, method)}".rstrip() if text else ""


def elsewhere(profile: Profile, method: str = "sft") -> str:
    """A sentence that names the backends here that could run the same config; empty where there are none."""
    others = ", ".join(alternatives(profile.name, method))
    return f"To run the same config elsewhere, change one word, `model: BACKEND:…`: {others}." if others else ""


def has_closed(profile: Profile, today: date | None = None) -> bool:
    """Whether the vendor has ended fine-tuning for everybody."""
    return profile.vendor == "openai" and (today or datetime.now(UTC).date()) >= OPENAI_ENDS


def refusal_remedy(profile: Profile, method: str = "sft") -> str:
    """What to do when this vendor refuses the account."""
    text = announcement(profile)
    cure = f"{text}." if text and profile.vendor == "openai" else "Check what the key is allowed to do."
    return f"{cure} {elsewhere(profile, method)}".rstrip()


def day(when: date) -> str:
    """A day as it is written in a sentence.

    >>> day(date(2027, 1, 6))
    '6 January 2027'
    """
    return f"{when.day} {when:%B %Y}"

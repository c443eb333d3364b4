"""From an example to token ids, with proof of which of them are learnt; without torch."""

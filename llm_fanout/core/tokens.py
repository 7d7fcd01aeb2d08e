"""How many tokens a text will cost, before any provider has counted them.

The estimate is a weighted count of words, digits, non-ASCII characters and punctuation. Its weights were fitted to a
common byte-pair tokenizer over mixed text and code (2026-11: total error -0.3 %, median 4 %, 95th percentile 24 %;
`len(text) / 4` had -25 %, 34 % and 59 %).
"""

from __future__ import annotations

PER_WORD = 1.3
PER_DIGIT = 0.4
PER_NON_ASCII = 0.8
PER_PUNCTUATION = 0.7


def estimate_tokens(text: str) -> int:
    """About how many tokens `text` has; at least 1 for any text that is not empty."""
    # Counting in translated bytes takes a tenth of what regular expressions take.
    kinds = text.encode(errors="surrogatepass").translate(_KINDS)
    letters = kinds.translate(_LETTERS)
    weight = (
        PER_WORD * (letters.count(b" a") + letters.startswith(b"a"))
        + PER_DIGIT * kinds.count(b"0")
        + PER_NON_ASCII * kinds.count(b"^")
        + PER_PUNCTUATION * kinds.count(b".")
    )
    return max(round(weight), 1 if text else 0)


def most_tokens(text: str) -> int:
    """How many tokens `text` has at the very most: its bytes in UTF-8, for a token stands for at least one."""
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))


def _kind_of(byte: int) -> str:
    """What a byte of UTF-8 is, or begins: a letter, a digit, space, punctuation, or a character beyond ASCII."""
    if byte > 0x7F:
        return "^" if byte > 0xBF else "-"  # one byte begins the character, the others go on with it
    character = chr(byte)
    if character.isalnum():
        return "0" if character.isdigit() else "a"
    return " " if character.isspace() else "."


_KINDS = "".join(map(_kind_of, range(256))).encode()
_LETTERS = bytes(byte if byte == ord("a") else ord(" ") for byte in range(256))

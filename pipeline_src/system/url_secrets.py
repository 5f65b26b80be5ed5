"""Passwords and tokens inside addresses: cut out of everything that is written."""

import hashlib
import re

HIDDEN = "***"
DIGEST_CHARS = 8
USER = re.compile(r"(?<=://)[^/?#\s'\"<>\\]*@")
# Of a query, a fragment or a path's parameters.
PARAMETER = re.compile(
    r"(?P<name>(?<=[?&;#])[^=&;#?/\s'\"<>]{1,80}=)(?P<value>(?:[^&;#?\s'\"<>]|\?(?!\w+=))+)"
)
SECRET_NAME = re.compile(
    r"token|sig(?!ht|n_?in)|auth|secret|pass|pwd|key|cred|session|\bsid\b|jwt|bearer|hmac|policy|"
    r"\bsas\b|nonce|code|ticket|private|login|user|hdn|cookie|csrf|otp|pin\b|hash|\bst\b|\bmd5\b",
    re.I,
)
# What no name, number or date looks like: letters and digits through one another, or a hash.
RANDOM_VALUE = re.compile(
    r"(?=.*\d)(?=.*[a-z])(?=.*[A-Z])[\w%+/=~-]{20,}|[0-9a-fA-F]{32,}|eyJ[\w.-]{10,}", re.A
)
# Without a name: a whole query, fragment or parameter of a path.
BARE = re.compile(
    r"(?:(?<=[?&#])[\w%.+/~-]{8,}|(?<=;)[\w%.+~-]{8,})={0,2}(?=[&;#?/\s'\"<>:,)]|$)", re.A
)
# Of those, what is no token: words and numbers, file names.
PLAIN = re.compile(r"[a-z]{1,19}(?:[_-][a-z]{1,19})*|[\dT_.-]+|.*\.[a-z]{1,4}\d?")


def hide_secrets(text: str) -> str:
    """Return ``text``, an address or a sentence with some in it, without passwords and tokens.

    A short hash stands for a token, so that two addresses stay two.
    """
    if "://" in text:
        text = BARE.sub(_hide_bare, USER.sub(f"{HIDDEN}@", text))
    return PARAMETER.sub(_hide_parameter, text) if "=" in text else text


def _hide_bare(match: re.Match[str]) -> str:
    return match[0] if PLAIN.fullmatch(match[0]) else _hidden(match[0])


def _hide_parameter(match: re.Match[str]) -> str:
    name, value = match["name"], match["value"]
    if value.startswith(HIDDEN) or not (SECRET_NAME.search(name) or RANDOM_VALUE.fullmatch(value)):
        return match[0]
    return name + _hidden(value)


def _hidden(value: str) -> str:
    digest = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
    return HIDDEN + digest[:DIGEST_CHARS]

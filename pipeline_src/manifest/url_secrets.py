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
    r"\bsas\b|nonce|code|ticket|private|login|user|hdn|cookie|csrf|otp|pin\b",
    re.I,
)
# What no name, number or date looks like: letters and digits through one another, or a hash.
RANDOM_VALUE = re.compile(
    r"(?=.*\d)(?=.*[a-z])(?=.*[A-Z])[\w%+/=~-]{20,}|[0-9a-fA-F]{32,}|eyJ[\w.-]{10,}", re.A
)


def hide_secrets(text: str) -> str:
    """``text``, an address or a sentence with some in it, without passwords and tokens.

    A short hash stands for a token, so that two addresses stay two.
    """
    if "://" in text or "=" in text:
        text = PARAMETER.sub(_hide_parameter, USER.sub(f"{HIDDEN}@", text))
    return text


def _hide_parameter(match: re.Match[str]) -> str:
    name, value = match["name"], match["value"]
    if value.startswith(HIDDEN) or not (SECRET_NAME.search(name) or RANDOM_VALUE.fullmatch(value)):
        return match[0]
    digest = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{name}{HIDDEN}{digest[:DIGEST_CHARS]}"

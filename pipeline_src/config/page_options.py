"""Which options of yt-dlp a configuration may set: those that run nothing and write nothing.

yt-dlp's options run programs, load plugins, read local files and write anywhere, and a
configuration may come from somebody else (``reproduce`` takes one from a metrics.json). So they are
allowed by name and kind; what is private, or names something of the user's machine, only in the
environment.
"""

from collections.abc import Mapping
from typing import Any

NUMBER = (int, float)
ALLOWED: dict[str, tuple[type, ...]] = {
    "age_limit": (int,),
    "allowed_extractors": (list,),
    "extractor_args": (dict,),
    "force_generic_extractor": (bool,),
    "format_sort": (list,),
    "format_sort_force": (bool,),
    "geo_bypass": (bool,),
    "geo_bypass_country": (str,),
    "geo_bypass_ip_block": (str,),
    "hls_split_discontinuity": (bool,),
    "http_chunk_size": (int,),
    "legacyserverconnect": (bool,),
    "playlist_items": (str,),
    "prefer_free_formats": (bool,),
    "ratelimit": NUMBER,
    "throttledratelimit": NUMBER,
    "sleep_interval": NUMBER,
    "max_sleep_interval": NUMBER,
    "sleep_interval_requests": NUMBER,
    "source_address": (str,),
}
ALLOWED_IN_ENVIRONMENT: dict[str, tuple[type, ...]] = {
    **ALLOWED,
    **dict.fromkeys(("username", "password", "twofactor", "videopassword"), (str,)),
    **dict.fromkeys(("ap_mso", "ap_username", "ap_password"), (str,)),
    **dict.fromkeys(("client_certificate", "client_certificate_key"), (str,)),
    **dict.fromkeys(("client_certificate_password", "geo_verification_proxy", "proxy"), (str,)),
    **dict.fromkeys(("usenetrc", "nocheckcertificate"), (bool,)),
    **dict.fromkeys(("cookiesfrombrowser", "remote_components"), (list,)),
    **dict.fromkeys(("http_headers", "js_runtimes"), (dict,)),
    "netrc_location": (str,),
}
ENVIRONMENT = "PIPELINE_YTDLP_OPTIONS"


def option_problem(options: Mapping[str, Any], *, is_private: bool = False) -> str:
    """Return what is wrong with the first option that is not allowed; its value is not shown.

    Args:
        is_private: the options come from the user's environment.
    """
    allowed = ALLOWED_IN_ENVIRONMENT if is_private else ALLOWED
    for name, value in options.items():
        if name in ALLOWED_IN_ENVIRONMENT and name not in allowed:
            return (
                f"{name} may be private and would be written into results; put it into the "
                f"environment: {ENVIRONMENT}, PIPELINE_COOKIES or PIPELINE_PROXY"
            )
        if name not in allowed:
            return f"{name[:80]} is not allowed; allowed are {', '.join(sorted(allowed))}"
        is_right = isinstance(value, allowed[name]) and (
            not isinstance(value, bool) or bool in allowed[name]
        )
        if not is_right or not _is_plain(name, value):
            kinds = " or ".join(kind.__name__ for kind in allowed[name])
            return f"{name} must be {kinds}" + (
                ": {extractor: {argument: [value]}}" if name == "extractor_args" else ""
            )
    return ""


def _is_plain(name: str, value: Any) -> bool:
    """Tell whether a value is a list of texts, or the two levels of extractor_args."""
    if isinstance(value, list):
        return all(isinstance(item, str) for item in value)
    if name != "extractor_args":
        return True
    levels = value.values()
    return all(isinstance(one, dict) for one in levels) and all(
        isinstance(texts, list) and all(isinstance(text, str) for text in texts)
        for one in levels
        for texts in one.values()
    )

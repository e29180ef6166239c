"""Keyword arguments of generate to the library's options."""

from . import _native
from ._convert import U64_MAX, c_string, integer, number
from ._errors import InvalidArgumentError

SAMPLING = ("temperature", "top_k", "top_p", "min_p", "typical_p", "top_n_sigma", "repeat_penalty",
            "presence_penalty", "frequency_penalty", "penalty_window", "seed")
_DRAWING = ("top_k", "top_p", "min_p", "typical_p", "top_n_sigma", "seed")
_OTHER = ("max_tokens", "stop", "stop_tokens", "bias", "priority", "logprobs", "top_logprobs", "ignore_eos", "score",
          "prefill_only")
_INTEGERS = {"top_k": 2**32 - 1, "penalty_window": 2**32 - 1, "seed": U64_MAX}


def _sampling(given):
    """dsopt_sampling of the sampling keywords that were given."""
    if "temperature" not in given and any(name in given for name in _DRAWING):
        names = ", ".join(name for name in _DRAWING if name in given)
        raise InvalidArgumentError(
            f"sampling: {names} without temperature: it would be 0, greedy, and they would change nothing")
    sampling = _native.dsopt_sampling()
    for name, value in given.items():
        high = _INTEGERS.get(name)
        setattr(sampling, name, number(name, value) if high is None else integer(name, value, 0, high))
    return sampling


def _strings(name, value):
    return (value,) if isinstance(value, (str, bytes)) else value


def _flags(options):
    return ((_native.DSOPT_GENERATE_PREFILL_ONLY if options.get("prefill_only") else 0)
            | (_native.DSOPT_GENERATE_SCORE if options.get("score") else 0)
            | (_native.DSOPT_GENERATE_IGNORE_EOS if options.get("ignore_eos") else 0))


def request_of(options):
    """GenerateRequest of the keyword arguments of Stream.generate. None means "not given"."""
    for name in options:
        if name not in SAMPLING and name not in _OTHER:
            raise TypeError(f"generate() got an unexpected keyword argument {name!r}")
    options = {name: value for name, value in options.items() if value is not None}
    request = _native.GenerateRequest()
    request.set_flags(_flags(options))
    request.set_max_tokens(integer("max_tokens", options.get("max_tokens", 0)))
    request.set_priority(integer("priority", options.get("priority", 0), -2**31, 2**31 - 1))
    request.set_top_logprobs(integer("top_logprobs", options.get("top_logprobs", 0)))
    request.set_logprobs(bool(options.get("logprobs", False)))
    for stop in _strings("stop", options.get("stop", ())):
        request.add_stop(c_string("stop", stop))
    for token in options.get("stop_tokens", ()):
        request.add_stop_token(integer("stop_tokens", token, -2**31, 2**31 - 1))
    for token, bias in dict(options.get("bias", ())).items():
        request.add_bias(integer("bias", token, -2**31, 2**31 - 1), number("bias", bias))
    given = {name: options[name] for name in SAMPLING if name in options}
    if given:
        request.set_sampling(_sampling(given))
    return request

"""Python values to what the raw layer takes, and back. Every refusal is an InvalidArgumentError."""

import datetime
import math
import operator
import os
from array import array

from . import _native
from ._errors import InvalidArgumentError

U32_MAX = 2**32 - 1
U64_MAX = 2**64 - 1
_LONGEST_US = 2**62


def integer(name, value, low=0, high=U32_MAX):
    """value as an int of a C type's range, so that nothing is cut silently."""
    try:
        number = operator.index(value)
    except TypeError:
        raise InvalidArgumentError(f"{name}: {value!r}, expected an integer") from None
    if not low <= number <= high:
        raise InvalidArgumentError(f"{name}: {number}, expected {low} to {high}")
    return number


def number(name, value):
    """value as a float."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise InvalidArgumentError(f"{name}: {value!r}, expected a number") from None


def microseconds(name, time):
    """Of a timedelta or a number of seconds."""
    if isinstance(time, datetime.timedelta):
        us = time // datetime.timedelta(microseconds=1)
    else:
        seconds = number(name, time)
        if math.isnan(seconds):
            raise InvalidArgumentError(f"{name}: nan, expected a time")
        us = _LONGEST_US if seconds > 1e12 else math.floor(seconds * 1e6) if seconds > -1e12 else -1
    if us < 0:
        raise InvalidArgumentError(f"{name}: {time!r}, expected a time of at least 0")
    return min(us, _LONGEST_US)


def encoded(name, value):
    """UTF-8 of a str, or bytes as they are. Lone surrogates go through, so that the library names their place."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, (bytes, bytearray, memoryview)):
        return value
    raise InvalidArgumentError(f"{name}: {type(value).__name__}, expected str or bytes")


def c_string(name, value):
    """bytes without a NUL for a C string."""
    data = bytes(encoded(name, value))
    if b"\0" in data:
        raise InvalidArgumentError(f"{name}: {value!r} holds a NUL character")
    return data


def optional_c_string(name, value):
    """c_string, but None stays None."""
    return None if value is None else c_string(name, value)


def path(name, value):
    """A file name as the operating system spells it; None is left to the library to refuse."""
    if value is None:
        return None
    try:
        return c_string(name, os.fsencode(value))
    except TypeError:
        raise InvalidArgumentError(f"{name}: {type(value).__name__}, expected a path") from None


def token_array(name, tokens):
    """An array of 32-bit integers."""
    if isinstance(tokens, array) and tokens.typecode == "i":
        return tokens
    try:
        return array("i", tokens)
    except (TypeError, OverflowError) as error:
        raise InvalidArgumentError(f"{name}: expected token ids: {error}") from None


def read_text(call):
    """The text of a raw function that fills a buffer and returns the full length: call(buffer)."""
    buffer = bytearray(256)
    while (length := call(buffer)) >= len(buffer):
        buffer = bytearray(length + 1)
    return bytes(memoryview(buffer)[:length])


def read_array(typecode, count, call):
    """The elements of a raw function that fills an array and returns the full count."""
    found = array(typecode, bytes(4 * count))
    while (length := call(found)) > len(found):
        found = array(typecode, bytes(4 * length))
    return found[:length]


def chat_messages(messages):
    """ChatMessages of a str (one user turn) or of Messages, mappings or (role, content) pairs."""
    if isinstance(messages, str):
        messages = (("user", messages),)
    raw = _native.ChatMessages()
    for message in messages:
        if hasattr(message, "role"):
            role, content = message.role, message.content
        elif hasattr(message, "keys"):
            try:
                role, content = message["role"], message["content"]
            except KeyError as error:
                raise InvalidArgumentError(f"messages: a message has no {error}") from None
        else:
            try:
                role, content = message
            except (TypeError, ValueError):
                raise InvalidArgumentError(f"messages: {message!r}, expected a role and its content") from None
        raw.add(c_string("messages.role", role), encoded("messages.content", content))
    return raw

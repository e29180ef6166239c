"""Chat: a conversation of many turns that reads each message only once."""

import weakref

from ._convert import integer
from ._errors import InvalidStateError
from ._stream import Pieces
from ._types import Finish, Message


class Chat:
    """A conversation.

        with dsopt.Chat(model, system="You are terse.") as chat:
            for piece in chat.send("Hello!"):
                print(piece, end="", flush=True)

    The cache keeps what the turns before said, so a turn costs only its own tokens. max_tokens: room for the whole
    conversation; default: the context length. messages is the list so far and may be edited between two turns."""

    def __init__(self, model, *, system=None, max_tokens=0, **session_options):
        self.messages = [Message("system", system)] if system is not None else []
        self._session = model.session(max_tokens=integer("max_tokens", max_tokens), **session_options)
        self._stream = self._session.stream()
        self._answer = lambda: None

    def send(self, content, **options):
        """The answer to a user message, piece by piece (for or async for). The keywords are those of Stream.generate.
        If it is given up or fails, the turn is taken back."""
        if self._answer() is not None:
            raise InvalidStateError("chat: the answer before is not finished: read it to its end or close it")
        self._stop()
        question = Message("user", content)
        self._prompt([*self.messages, question])
        self._stream.generate(**options)
        answer = _Answer(self, question)
        self._answer = weakref.ref(answer)
        return answer

    def ask(self, content, **options):
        """The answer to a user message, as one str."""
        return "".join(self.send(content, **options))

    def close(self):
        """Gives the session back. Closing twice is harmless."""
        self._stream.close()
        self._session.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def _prompt(self, messages):
        """Makes the stream hold exactly these messages, from the first difference on."""
        model, stream = self._session.model, self._stream
        wanted = model.tokenize(model.format_chat(messages), special=True)
        known, same = stream.tokens, 0
        while same < min(len(known), len(wanted) - 1) and known[same] == wanted[same]:
            same += 1
        stream.rewind(same)
        stream.append_tokens(wanted[same:])

    def _stop(self):
        """Ends an answer that nobody reads any more."""
        self._stream.cancel()
        self._session.run()  # the cancellation takes effect at the next poll
        while self._stream.read() is not None:
            pass

    def _ended(self, question, text, finish):
        self._answer = lambda: None
        if finish in (Finish.EOS, Finish.STOP, Finish.LENGTH):
            self.messages += (question, Message("assistant", text))
        elif not self._stream.closed:
            self._stop()


class _Answer(Pieces):
    """Pieces that become a message of the chat when they end."""

    __slots__ = ("_chat", "_question", "_text")

    def __init__(self, chat, question):
        super().__init__(chat._stream)
        self._chat, self._question, self._text = chat, question, []

    def __next__(self):
        piece = super().__next__()
        self._text.append(piece)
        return piece

    async def __anext__(self):
        piece = await super().__anext__()
        self._text.append(piece)
        return piece

    def _ended(self, stream):
        self._chat._ended(self._question, "".join(self._text), self.finish)

"""What goes wrong on purpose, in one tree.

    FlagError(Exception)
    ├── DefinitionError             wrong at import time; the process should not start
    │   ├── NotAFlag(TypeError)     something else than a flag bound to a model
    │   └── HandlerExists           a second handler for one flag           (worker)
    ├── UnsavedRow                  a row without a key, where a saved one is needed
    ├── OpenTransaction             something is awaited that would be no part of it
    ├── NoSuchFlag(LookupError)     a name that is no flag's
    ├── StillPending                a flag that is to be dropped, and has work to do
    ├── BadText(ValueError)         a typed key or filter that cannot be meant
    └── HandlerSignal               raised by handlers, never by us         (worker)
        ├── RetryLater(wait)        not a failure: due again after `wait`
        └── GiveUp(reason)          park the row; a person decides

    BadSetting(SystemExit)          a wrong environment variable: uncaught, it ends
                                    the process with its one line, no traceback

A lost lease is no error: the functions that end a claim return False. Errors of
peewee, dramatiq and redis pass through as they are.
"""

from __future__ import annotations


class FlagError(Exception):
    """The root of all errors that this project raises on purpose."""


class DefinitionError(FlagError):
    """A model, flag or handler is declared in a way that cannot work."""


class NotAFlag(DefinitionError, TypeError):
    """Something was given as a flag that is none."""


class UnsavedRow(FlagError):
    """The row has no key yet, so there is nothing in the database to change."""


class OpenTransaction(FlagError):
    """A transaction is open, and what is awaited in it would be no part of it."""


class NoSuchFlag(FlagError, LookupError):
    """No flag is called so, as far as this process knows."""


class StillPending(FlagError):
    """Rows of a flag that is to be dropped are pending."""


class BadText(FlagError, ValueError):
    """What somebody typed as a key or a filter cannot be meant."""


class BadSetting(SystemExit):
    """An environment variable holds something that cannot be used.

    It is a SystemExit because no caller can go on without the setting: a process
    that does not catch it ends with status 1 and this one line.

    Args:
        name: the environment variable.
        problem: what is wrong with it, and what to write instead.
    """

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name}: {problem}")

"""The dashboard: an ASGI application that shows the flags and does what operators do.

`pending dashboard` serves `app`. Mounted in an application of your own it works under
any path; `app_without_login` is the same behind a login of your own.
"""

from .application import app, app_without_login

__all__ = ["app", "app_without_login"]

"""Messages about alerts as mail."""

import asyncio
import smtplib
import ssl
from collections.abc import Sequence
from email.message import EmailMessage
from urllib.parse import unquote, urlsplit

from perdure.domain.alerts import Message
from perdure.domain.alerts.notices import text_of
from perdure.domain.errors import NotifierFailed

NAME = "email"
TIMEOUT_S = 20.0
PORTS = {"smtp": 587, "smtps": 465}


class Email:
    """Sends each message as text; a password is sent over TLS or not at all."""

    def __init__(self, url: str, *, sender: str, recipients: Sequence[str]) -> None:
        self._url = urlsplit(url)
        self._sender = sender
        self._recipients = recipients

    async def send(self, message: Message) -> None:
        mail = EmailMessage()
        mail["Subject"] = f"[{message.status}, {message.severity}] {message.title}"
        mail["From"] = self._sender
        mail["To"] = ", ".join(self._recipients)
        mail["Message-ID"] = f"<{message.id}@perdure>"
        mail.set_content(text_of(message))
        await asyncio.to_thread(self._deliver, mail)

    def _deliver(self, mail: EmailMessage) -> None:
        try:
            with self._connected() as server:
                if self._url.username:
                    server.login(unquote(self._url.username), unquote(self._url.password or ""))
                server.send_message(mail)
        except smtplib.SMTPResponseException as error:
            raise NotifierFailed(NAME, f"the mail server answered with code {error.smtp_code}") from None
        except (OSError, smtplib.SMTPException) as error:
            raise NotifierFailed(NAME, f"the mail server did not take it ({type(error).__name__})") from None

    def _connected(self) -> smtplib.SMTP:
        host, port = self._url.hostname or "", self._url.port or PORTS[self._url.scheme]
        if self._url.scheme == "smtps":
            return smtplib.SMTP_SSL(host, port, timeout=TIMEOUT_S, context=ssl.create_default_context())
        server = smtplib.SMTP(host, port, timeout=TIMEOUT_S)
        try:
            self._secure(server)
        except BaseException:
            server.close()
            raise
        return server

    def _secure(self, server: smtplib.SMTP) -> None:
        server.ehlo()
        if server.has_extn("starttls"):
            server.starttls(context=ssl.create_default_context())
            server.ehlo()
        elif self._url.username:
            raise NotifierFailed(NAME, "the mail server offers no TLS, and a password is not sent without it")

"""Signing in with a token, and out."""

from typing import Any

from litestar import Request, Response, get, post
from litestar.datastructures import Cookie
from litestar.params import FromQuery, URLEncodedBody
from litestar.response import Redirect

from perdure.surfaces.web.authentication import COOKIE, SESSION_S, Tokens
from perdure.surfaces.web.context import GivenWeb
from perdure.surfaces.web.pages.acting import own_path
from perdure.surfaces.web.pages.frame import answer, environment
from perdure.surfaces.web.routing import PUBLIC


@get("/sign-in", opt=PUBLIC, include_in_schema=False)
async def sign_in(request: Request[Any, Any, Any], to: FromQuery[str] = "/") -> Response[str]:
    """The page that asks for a token."""
    return _form(request, to, "")


@post("/sign-in", opt=PUBLIC, include_in_schema=False, status_code=200)
async def signed_in(
    request: Request[Any, Any, Any],
    web: GivenWeb,
    data: URLEncodedBody[dict[str, str]],
) -> Response[Any]:
    """Take a token, and set a cookie that no script can read."""
    to = own_path(data.get("to", "/"))
    authentication = web.authentication
    user = authentication.of_secret(data.get("token", "")) if isinstance(authentication, Tokens) else None
    if user is None or not isinstance(authentication, Tokens):
        return _form(request, to, "This token lets nobody in.", status=401)
    root = request.scope.get("root_path", "")
    cookie = Cookie(
        key=COOKIE,
        value=authentication.session(user),
        path=root or "/",
        max_age=SESSION_S,
        httponly=True,
        secure=request.url.scheme == "https",
        samesite="strict",
    )
    return Redirect(f"{root}{to}", status_code=303, cookies=[cookie])


@post("/sign-out", opt=PUBLIC, include_in_schema=False, status_code=200)
async def sign_out(request: Request[Any, Any, Any]) -> Response[Any]:
    """Take the cookie back."""
    root = request.scope.get("root_path", "")
    response = Redirect(f"{root}/sign-in", status_code=303)
    response.delete_cookie(COOKIE, path=root or "/")
    return response


def _form(request: Request[Any, Any, Any], to: str, fault: str, status: int = 200) -> Response[str]:
    root = request.scope.get("root_path", "")
    template = environment().get_template("sign_in.html")
    return answer(template.render(root=root, to=own_path(to), fault=fault), status)


HANDLERS = (sign_in, signed_in, sign_out)

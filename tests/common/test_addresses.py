"""No secret of an address is shown, whatever signs are in it and whatever stands around it."""

import json
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.common.addresses import HIDDEN, has_userinfo, masked
from pipeline.common.errors import UserError

SECRET = "S3cr3tW0rd"
FORMS = (
    f"postgresql://user:{SECRET}@host:5432/db",
    f"postgresql://host/db?user=u&password={SECRET}",
    f"postgresql://user:{SECRET}@{SECRET}@host/db",
    f"postgresql://user:{SECRET}/{SECRET}@host/db",
    f"postgresql://user:{SECRET}#{SECRET}@host/db",
    f"postgresql://user:{SECRET}?{SECRET}@host/db",
    f"postgresql://user:{SECRET}?{SECRET}@host/db?user=a@corp&password={SECRET}",
    f"postgresql://user:12/{SECRET}@host/db",
    f"postgresql+psycopg2://user:{SECRET}%40%2F@host/db",
    f"mysql+pymysql://user:p@ss/{SECRET}:{SECRET}@host/db",
    f"postgresql://user:'{SECRET}\"{SECRET}@host/db",
    f"mssql+pyodbc://user@host:{SECRET}@server/db?driver=x&authentication={SECRET}",
    f"https://user:{SECRET}@host.org/rows.csv",
    f"https://{SECRET}@host.org/rows.csv",
    f"https://{SECRET}/{SECRET}@host/rows.csv",
    f"https://host.org/rows.csv?sig={SECRET}",
    f"https://host.org/rows.csv?X-Amz-Credential=a%2Fb&X-Amz-Signature={SECRET}",
    f"https://host.org/rows.csv?token={SECRET};mail=a@b.org",
    f"https://host.org/rows.csv?{SECRET}",
    f"https://host.org/rows.csv#access_token={SECRET}",
    f"http://[::1]:8000/rows.csv?sig={SECRET}",
    f"s3://key:{SECRET}@bucket/rows",
)
PLACES = (
    "{}",
    "error: {} can't be used",
    "'{}'",
    '"{}"',
    "data.source={}",
    "python -m pipeline run --set 'data.source={}' seed=1",
    "source: {}\ntarget: y",
    "<{}>",
    "[rows]({}), and more",
    "{}: the file does not exist",
    "{path}: no such file; there is no folder {path} either",
    '{{"url":"{}","other":"{}"}}',
)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("form", FORMS)
def test_no_secret_is_shown(form: str, place: str) -> None:
    text = place.replace("{}", form).replace("{path}", str(Path(form)))
    assert SECRET not in masked(text)
    assert SECRET not in str(UserError(text))
    assert masked(masked(text)) == masked(text)


@pytest.mark.parametrize("form", FORMS)
def test_what_a_library_cites_of_a_known_address(form: str) -> None:
    for error in (f"could not translate host name {SECRET}@host", f"invalid: {form!r} {SECRET}"):
        assert SECRET not in masked(error, form)


def test_the_place_is_still_told() -> None:
    for form, shown in (
        ("https://host.org/a@v1/rows.csv", "https://host.org/a@v1/rows.csv"),
        ("https://github.com/a@v1/rows.csv?raw=1", "https://github.com/a@v1/rows.csv?raw=***"),
        ("postgresql://u:p@host:5432/db", "postgresql://***@host:5432/db"),
        ("postgresql://host/db?user=u&password=p", "postgresql://host/db?user=***&password=***"),
        ("sqlite:////home/me@work/a#b/my.db", "sqlite:////home/me@work/a#b/my.db"),
        ("file:///home/me@work/a#b/rows.csv", "file:///home/me@work/a#b/rows.csv"),
        ("models:/quick@champion", "models:/quick@champion"),
        ("#/experiments/1/runs/2", "#/experiments/1/runs/2"),
        ("really? yes: a=b", "really? yes: a=b"),
        ("url: /rows.csv?sig=abc (Caused by", "url: /rows.csv?sig=*** (Caused by"),
    ):
        assert masked(form) == shown
        assert has_userinfo(form) == ("***@" in shown)


@given(st.text())
def test_any_text_can_be_masked(text: str) -> None:
    once = masked(text, text)
    assert masked(once) == masked(masked(once))
    if "://" not in text and "?" not in text:
        assert masked(text) == text


@given(st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S"]), min_size=8))
def test_passwords_of_any_signs(secret: str) -> None:
    address = f"postgresql://user:{secret}@host/db"
    for text in (address, shlex.quote(address), json.dumps(f"no {address}")):
        assert secret not in masked(text, address)


@pytest.mark.parametrize("where", ["", "http://127.0.0.1:5000/", "https://me:pass@host/"])
def test_pages_of_mlflow_are_shown_and_nothing_that_only_looks_so(where: str) -> None:
    page = "#/experiments/1/runs?viewStateShareKey=rates&compareRunsMode=CHART"
    shown = where.replace("me:pass", HIDDEN)
    assert masked(f"[x]({where}{page}) y") == f"[x]({shown}{page}) y"
    assert masked(f"{where}#/experiments/1/runs/{'a1' * 16}") == (
        f"{shown}#/experiments/1/runs/{'a1' * 16}"
    )
    for other in ("viewStateShareKey=topsecret", "viewStateShareKey=trials&token=topsecret"):
        assert "topsecret" not in masked(f"{where}#/experiments/1/runs?{other}")

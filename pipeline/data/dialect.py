"""How a text file writes its table: encoding, separator, quotes, decimal sign, header.

A header is known by the columns that are looked for; where these say nothing, the separator is the
one that cuts most rows into equally many values, and the header the first of these rows."""

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import IO, Any

from pipeline.common.errors import UserError
from pipeline.common.text import some
from pipeline.inference.rows import MISSING, stripped

UNNAMED = "Unnamed: "
"""What a column without a name is called, and its position from 0; pandas does so too."""

BLANKS = " "
"""The separator of values between which any number of blanks and tabs stands."""

_HEAD_BYTES = 1 << 18
_FIRST_ROWS = 100  # among which the header is looked for
_BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_CODEPAGES = ["cp1251", "shift_jis", "gb18030", "euc_kr", "big5"]
_COMMA, _POINT = (
    re.compile(
        rf"[+-]?(0?{sign}\d+|\d*{sign}(\d{{1,2}}|\d{{4,}})|\d{{1,3}}({other}\d{{3}})+{sign}\d+)"
    )
    for sign, other in ((",", r"\."), (r"\.", ","))
)
"""Numbers whose decimal sign is beyond doubt."""


@dataclass(frozen=True)
class Told:
    """What the configuration says of text files; None: found out. header: the line that it is on,
    from 1; 0: there is none, and columns are called by their positions, from 0."""

    encoding: str | None = None
    separator: str | None = None
    decimal: str | None = None
    header: int | None = None


NOTHING_TOLD = Told()


@dataclass(frozen=True)
class Form:
    """What cuts a row into values."""

    separator: str
    quote: str = '"'
    escape: str | None = None


@dataclass(frozen=True)
class Dialect:
    """size: bytes of the unpacked file, or of its start. decimal: "." or ","; None where no value
    tells. skip: lines before the first row. names: of the columns. rows: the first ones, texts.
    notes: what is to be said. doubt: what to warn of."""

    encoding: str
    size: int
    form: Form
    decimal: str | None
    skip: int
    names: tuple[str, ...]
    rows: list[list[str]]
    notes: tuple[str, ...] = ()
    doubt: str = ""


def find_dialect(
    source: str, content: IO[bytes], usual: str, wanted: Collection[str], told: Told
) -> Dialect:
    """The dialect of a text file.

    Args:
        content: the file from its start, unpacked.
        usual: the separator that the file's name says.
        wanted: columns that its header must have.

    Raises UserError: an encoding that does not fit, a header that is none of `wanted`."""
    head = content.read(_HEAD_BYTES)
    encoding, size = (told.encoding, len(head)) if told.encoding else _encoding(head, content)
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(head).replace("\0", "")
    except (UnicodeDecodeError, LookupError) as error:
        raise UserError(f"{source}: data.encoding: the file is not {encoding}: {error}") from None
    if len(head) == _HEAD_BYTES:
        text = text[: max(text.rfind("\n"), text.rfind("\r")) + 1] or text
    if hint := re.match(r"(?i)sep=(.)\r?\n", text):
        told = replace(told, separator=told.separator or hint[1])
    quote = "'" if _quoted(text, "'") > _quoted(text, '"') else '"'
    escapes = [None, "\\"] if f"\\{quote}" in text else [None]
    signs = [told.separator] if told.separator else [usual, ",", ";", "\t", "|", BLANKS]
    forms = [Form(sign, quote, escape) for sign in dict.fromkeys(signs) for escape in escapes]
    tables = [_Table.of(text, form, wanted, told.header) for form in forms]
    best = max(tables, key=_Table.fitness)
    if best.header is None and not best.rows:
        raise UserError(f"{source}: the file is empty, or its first row is longer than 128 KiB")
    doubt = ""
    if best.header is not None and told.header is None and _is_data(best.header):
        shown = f"the first row ({some(best.header, 4)}) looks like one of data"
        positions = list(map(str, range(len(best.names()))))
        if best.found or not wanted:
            doubt = f"{shown} but was taken as the header; if there is none, set data.header: 0"
        elif set(wanted) <= set(positions):
            best = _Table.of(text, best.form, wanted, 0)
        else:
            missing = next(name for name in wanted if name not in (best.header or ()))
            raise UserError(
                f"{source}: the header must have a column {missing!r}; {shown}: if there is no "
                "header, set data.header: 0 and call the columns by their positions, from 0 to "
                f"{positions[-1]!r}"
            )
    decimal = told.decimal or best.decimal()
    separator = best.form.separator
    notes = {
        f"separated by {'blanks' if separator == BLANKS else repr(separator)}": separator != usual,
        "decimal commas": decimal == ",",
        f"in {encoding}": not encoding.startswith("utf-8"),
        "single quotes": quote == "'",
        "without a header": best.header is None,
        f"header on line {best.skip}": best.header is not None and best.skip > 1,
    }
    said = tuple(note for note, is_so in notes.items() if is_so)
    names = tuple(name or f"{UNNAMED}{i}" for i, name in enumerate(best.names()))
    return Dialect(encoding, size, best.form, decimal, best.skip, names, best.rows, said, doubt)


def _quoted(text: str, quote: str) -> int:
    """How many values stand in such quotes."""
    return len(re.findall(rf"(?:^|[,;\t|\n]){quote}[^{quote}\n]*{quote}(?=[,;\t|\r\n]|$)", text))


def _encoding(head: bytes, rest: IO[bytes]) -> tuple[str, int]:
    """By a byte order mark, else UTF-8 where all bytes are, else as the first bytes that are none
    suggest; and how many bytes were read, all unless a mark told."""
    for mark, name in _BOMS.items():
        if head.startswith(mark):
            return name, len(head)
    if head[1::2].count(0) > len(head) / 4:
        return "utf-16-le", len(head)
    decoder, block, size = codecs.getincrementaldecoder("utf-8")(), head, 0
    encoding = "utf-8"
    while block:
        size += len(block)
        try:
            if encoding == "utf-8":
                decoder.decode(block)
        except UnicodeDecodeError:
            lines = re.findall(rb"[^\r\n]*[\x80-\xff][^\r\n]*", block)
            encoding = _codepage(b"\n".join(lines[:1000]))
        block = rest.read(1 << 20)
    return encoding, size


def _codepage(lines: bytes) -> str:
    """Western languages have single letters that are not ASCII, others have words of them."""
    from charset_normalizer import from_bytes

    strange = re.findall(rb"[\x80-\xff]+", lines)
    is_western = 2 * sum(len(letters) == 1 for letters in strange) > len(strange)
    guess = None if is_western else from_bytes(lines, cp_isolation=_CODEPAGES).best()
    return guess.encoding if guess is not None else "cp1252"


def rows_of(text: Iterable[str], form: Form) -> Iterator[tuple[int, list[str]]]:
    """The values of each row that is not blank, and the line on which it begins, from 1. Raises
    csv.Error at a line that no table has."""
    if form.separator == BLANKS:
        text = map(squeezed, text)
    quoting: dict[str, Any] = {"quotechar": form.quote, "escapechar": form.escape}
    reader = csv.reader(text, delimiter=form.separator, skipinitialspace=True, **quoting)
    line = 1
    for values in reader:
        if values:
            yield line, values
        line = reader.line_num + 1


def squeezed(line: str) -> str:
    """One blank where several blanks and tabs stand."""
    return f"{' '.join(line.split())}\n"


def _is_data(header: Sequence[str]) -> bool:
    """Whether a row is none of names: it holds numbers with a decimal sign, or a number twice."""
    numbers = [cell for cell in header if re.fullmatch(r"[+-]?\d+([.,]\d+)?", cell)]
    return any(not cell.isdecimal() for cell in numbers) or len(set(numbers)) < len(numbers)


@dataclass(frozen=True)
class _Table:
    """The first rows of a text as one separator cuts them, `skip` lines before these; as many
    values in a row, `width`, as most have, which are a `share` of them; whether the header, where
    there is one, is sure."""

    form: Form
    header: list[str] | None
    rows: list[list[str]]
    skip: int
    width: int
    share: float
    found: bool

    @staticmethod
    def of(text: str, form: Form, wanted: Collection[str], header: int | None) -> "_Table":
        lines: list[int] = []
        rows: list[list[str]] = []
        with suppress(csv.Error):
            for line, values in rows_of(io.StringIO(text, newline=""), form):
                # Blanks around a name count where somebody names it so.
                rows.append([value if value in wanted else stripped(value) for value in values])
                lines.append(line)
        ((width, often),) = Counter(map(len, rows)).most_common(1) or [(1, 0)]
        share = often / max(len(rows), 1)
        if header == 0 or not rows:
            return _Table(form, None, rows, 0, width, share, header == 0)
        place, found = sum(line <= header for line in lines) - 1 if header else 0, True
        if header is None:
            place, found = _header_of(rows, width, wanted)
        place = max(place, 0)
        skip = [*lines, lines[place] + 1][place + 1] - 1
        return _Table(form, rows[place], rows[place + 1 :], skip, width, share, found)

    def fitness(self) -> tuple[bool, bool, float]:
        return self.found, self.width > 1 and self.share >= 0.9, self.share

    def names(self) -> list[str]:
        """As the rows have them: a last separator makes none, and R's row names have none."""
        if (header := self.header) is None:
            return [str(position) for position in range(self.width)]
        more = self.width - len(header)
        if more > 0 and not any(any(row[len(header) :]) for row in self.rows):
            return [*header, *[""] * more]
        if more == 1:
            return ["", *header]
        return header[:more] if more < 0 and not any(header[more:]) else header

    def decimal(self) -> str | None:
        """The sign that more columns use beyond doubt; of values between semicolons a comma needs
        none."""
        columns = list(zip(*(row for row in self.rows if len(row) == self.width), strict=True))
        votes = [sum(any(map(form.fullmatch, c)) for c in columns) for form in (_POINT, _COMMA)]
        if votes[0] != votes[1]:
            return ".,"[votes[1] > votes[0]]
        grouped = (re.fullmatch(r"[+-]?\d+,\d{3}", cell) for c in columns for cell in c)
        return "," if self.form.separator == ";" and votes[0] == 0 and any(grouped) else None


def _header_of(rows: list[list[str]], width: int, wanted: Collection[str]) -> tuple[int, bool]:
    """The header's place, and whether it is sure."""
    filled = [max((i for i, cell in enumerate(row, 1) if cell), default=0) for row in rows]
    ((least, _),) = Counter(filled).most_common(1)  # a last separator makes no column
    wide = [
        place
        for place, row in enumerate(rows[:_FIRST_ROWS])
        if len(row) >= min(width, least) - 1 and 2 * sum(map(bool, row)) >= len(row)
    ]
    for place in wide:
        if wanted and set(wanted) <= set(rows[place]):
            return place, True
        if all(rows[place]):  # a title leaves cells empty
            break
    return next(iter(wide), 0), False


def types_of(dialect: Dialect) -> dict[str, str]:
    """For each column whose first values are all numbers `int64` or `float64`; but not for codes,
    which begin with zeros."""
    point = re.escape(dialect.decimal or ".")
    whole, number = r"-?(0|[1-9]\d{0,17})", rf"((0|[1-9]\d*)({point}\d*)?|{point}\d+)(e[+-]?\d+)?"
    forms = {"int64": re.compile(whole), "float64": re.compile(rf"[+-]?{number}|-?inf", re.I)}
    types = {}
    for name, column in zip(dialect.names, zip(*dialect.rows, strict=False), strict=False):
        cells = [cell for cell in column if cell.lower() not in MISSING]
        fitting = (dtype for dtype, form in forms.items() if all(map(form.fullmatch, cells)))
        if cells and (dtype := next(fitting, "")):
            types[name] = dtype
    return types

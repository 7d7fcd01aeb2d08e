"""Prompts as lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_fanout import Endpoint
from llm_fanout.rows import BadRow, RowReader


def test_a_row_carries_its_options() -> None:
    """What a row may say is on its Prompt; what it leaves out is not."""
    messages = '[{"role": "user", "content": [{"type": "text", "text": "x"}]}]'
    line = f'{{"id": 3, "messages": {messages}, "model": "sim/y", "stop": ["."]}}'

    prompt = RowReader().read(line)

    assert prompt is not None
    assert (prompt.id, prompt.model, prompt.options) == (3, "sim/y", {"stop": ["."]})
    assert prompt.content == [{"role": "user", "content": [{"type": "text", "text": "x"}]}]


def test_empty_lines_are_passed_over_and_counted() -> None:
    """They are no prompts, and the next fault still names its line."""
    reader = RowReader()

    assert reader.read("\n") is None
    assert reader.read("   ") is None
    with pytest.raises(BadRow, match=r"^line 3"):
        reader.read("{")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{}", "needs either 'prompt' or 'messages'"),
        ('{"prompt": "a", "messages": [{"role": "user"}]}', "needs either"),
        ('{"prompt": 5}', "prompt: a valid string is needed"),
        ('{"messages": []}', "messages"),
        ('{"messages": [{"content": "x"}]}', "role"),
        ('{"prompt": "a", "max_tokens": 0}', "max_tokens"),
        ('{"prompt": "a", "headers": {}}', "there is no field 'headers'"),
        ('{"prompt": "a", "temprature": 1}', "there is no field 'temprature'; did you mean temperature?"),
        ('{"id": 1.5, "prompt": "a"}', "id: a valid string or a valid integer is needed"),
        ('{"prompt": "a", "stop": 5}', "stop: a valid string or a valid list is needed"),
        ('{"messages": [{"content": "x"}, {"content": "y"}]}', "messages.0.role: Field required"),
        ('{"prompt": "a", "temperature": NaN}', "temperature: a finite number is needed"),
        ("5", "line 1: a row is an object or a string; expected"),
        ('[{"role": "user", "content": "x"}]', "line 1: a row is an object or a string; expected"),
        ("text without quotes", "line 1: this is not JSON (column 1); expected"),
        ("[" * 100_000, "line 1: this is not JSON; expected"),
        ('"cut', "JSON"),
    ],
)
def test_faults_say_what_and_what_was_expected(line: str, says: str) -> None:
    """The place in the row, the fault, the forms that a row may have, and what was there."""
    with pytest.raises(BadRow) as caught:
        RowReader().read(line)

    assert says in str(caught.value)
    assert 'expected {"id": ..., "prompt": "..."}' in str(caught.value)


def test_a_byte_order_mark_is_passed_over() -> None:
    """Files from Windows begin with one; elsewhere it is a fault."""
    reader = RowReader()

    prompt = reader.read('\ufeff"text"\r\n')

    assert prompt is not None
    assert prompt.content == "text"
    with pytest.raises(BadRow, match=r"^line 2"):
        reader.read('\ufeff"text"')


def test_bytes_that_are_no_utf8_are_a_fault_of_their_line() -> None:
    """One broken line is named, or skipped, like any other."""
    reader = RowReader(skip=True)

    prompts = list(reader.read_all([b'"Gr\xc3\xbc\xc3\x9fe"\n', b'"\xff"\n', b'"b"\n']))

    assert [prompt.content for prompt in prompts] == ["Grüße", "b"]
    assert reader.faults[0].startswith("line 2: this is not UTF-8; expected")


def test_skipped_rows_are_noted() -> None:
    """With `skip` a fault is a line in `faults`, and reading goes on."""
    reader = RowReader(skip=True)

    prompts = list(reader.read_all(['"a"', "{", '{"id": 1, "prompt": "b"}', '{"id": 1, "prompt": "c"}']))

    assert [prompt.content for prompt in prompts] == ["a", "b"]
    assert [fault[:6] for fault in reader.faults] == ["line 2", "line 4"]


@given(st.text())
def test_any_line_is_a_prompt_or_a_bad_row(line: str) -> None:
    """Nothing else comes out, whatever goes in."""
    reader = RowReader(skip=True)

    prompt = reader.read(line)

    assert prompt is not None or not line.strip() or reader.faults[0].startswith("line 1: ")


def test_a_row_chooses_a_model_but_neither_place_nor_key() -> None:
    """Another model of the same provider is asked where all rows go; another provider is refused, as are keys, unquoted."""
    own = Endpoint("openai/x", base_url="http://127.0.0.1:1/v1", api_key="none")
    reader = RowReader(skip=True, endpoint=own)

    same = reader.read('{"prompt": "a", "model": "openai/other"}')
    plain = reader.read('{"prompt": "a"}')
    other = reader.read('{"prompt": "a", "model": "anthropic/claude"}')
    secret = reader.read('{"prompt": "a", "api_key": "sk-secret-0123"}')

    assert same is not None
    assert same.model == Endpoint("openai/other", base_url="http://127.0.0.1:1/v1", api_key="none")
    assert plain is not None
    assert (plain.model, other, secret) == (None, None, None)
    assert "line 3: model 'anthropic/claude' is not one of 'openai'" in reader.faults[0]
    assert "no field 'api_key'" in reader.faults[1]
    assert "sk-secret" not in str(reader.faults)

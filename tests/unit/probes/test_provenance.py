from __future__ import annotations

import hashlib
import json
from pathlib import Path

import makers
import pytest
from pydantic import ValidationError

from probes.errors import InputError
from probes.provenance import fingerprint_files, hub_identity, sha256_text


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", "org/other"),
        ("architecture", "LlamaForCausalLM"),
        ("hidden_size", 7),
        ("num_layers", 5),
        ("vocab_size", 41),
        ("dtype", "bfloat16"),
        ("quantization", "awq"),
        ("tokenizer_sha256", "c" * 64),
        ("chat_template_sha256", None),
    ],
)
def test_each_field_is_compared_and_named(field: str, value: object) -> None:
    found = makers.fingerprint().mismatches(makers.fingerprint(**{field: value}))
    assert len(found) == 1
    assert found[0].startswith(field)
    assert repr(value) in found[0]


def test_the_same_model_has_none() -> None:
    assert makers.fingerprint().mismatches(makers.fingerprint()) == []


@pytest.mark.parametrize(
    ("ours", "theirs", "same"),
    [
        ("org/tiny", "other/tiny", False),
        ("org/tiny", "/models/tiny", True),
        ("org/tiny", "/models/tiny/", True),
        ("./org/tiny", "org/tiny", True),
        ("/a/tiny", "/b/tiny", True),
        ("/a/tiny", "/a/small", False),
    ],
)
def test_a_folder_goes_by_its_name(ours: str, theirs: str, same: bool) -> None:
    found = makers.fingerprint(model=ours).mismatches(makers.fingerprint(model=theirs))
    assert (found == []) is same


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/c/models--org--a-b.c/snapshots/0123", ("org/a-b.c", "0123")),
        ("models--tiny/snapshots/0123/", ("tiny", "0123")),
        ("org/tiny", ("org/tiny", "main")),
        ("/c/models--org--tiny", ("/c/models--org--tiny", "main")),
        (
            "/c/models--org--tiny/snapshots/0123/x",
            ("/c/models--org--tiny/snapshots/0123/x", "main"),
        ),
    ],
)
def test_a_folder_of_the_hubs_cache_is_the_hubs_model(path: str, expected: tuple[str, str]) -> None:
    assert hub_identity(path, "main") == expected


def test_a_branch_cannot_be_told_from_a_commit_but_commits_and_branches_differ() -> None:
    commits = [makers.fingerprint(revision=digit * 40) for digit in "ab"]
    branches = [makers.fingerprint(revision=name) for name in ("main", "v2")]
    assert commits[0].mismatches(branches[0]) == branches[0].mismatches(commits[0]) == []
    for pair in (commits, branches):
        (phrase,) = pair[0].mismatches(pair[1])
        assert phrase.startswith("revision is")


def test_a_revision_counts_where_both_are_known() -> None:
    known = makers.fingerprint(revision="abc")
    assert known.mismatches(makers.fingerprint()) == []
    assert makers.fingerprint().mismatches(known) == []
    assert known.mismatches(makers.fingerprint(revision="def")) == [
        "revision is 'def', expected 'abc'"
    ]


def test_refuses_what_is_no_hash() -> None:
    with pytest.raises(ValidationError, match="tokenizer_sha256"):
        makers.fingerprint(tokenizer_sha256="abc")


def model_folder(folder: Path, **files: object) -> Path:
    (folder / "tokenizer.json").write_bytes(b"{}")
    for name, content in files.items():
        path = folder / name.replace("__", ".")
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def test_files_without_template(tmp_path: Path) -> None:
    found = fingerprint_files(model_folder(tmp_path, tokenizer_config__json={"x": 1}))
    assert found["tokenizer_sha256"] == hashlib.sha256(b"{}").hexdigest()
    assert found["chat_template_sha256"] is None


def test_the_template_hashes_alike_wherever_it_is_kept(tmp_path: Path) -> None:
    template = "{% for m in messages %}ä{% endfor %}\n"
    for index, files in enumerate(
        (
            {"chat_template__jinja": template, "tokenizer_config__json": {"chat_template": "x"}},
            {"chat_template__json": {"chat_template": template}},
            {"tokenizer_config__json": {"chat_template": template}},
        )
    ):
        folder = tmp_path / str(index)
        folder.mkdir()
        found = fingerprint_files(model_folder(folder, **files))
        assert found["chat_template_sha256"] == sha256_text(template)


def test_several_named_templates_hash_as_one(tmp_path: Path) -> None:
    named = [{"name": "default", "template": "a"}, {"name": "tools", "template": "b"}]
    folder = model_folder(tmp_path, tokenizer_config__json={"chat_template": named})
    assert fingerprint_files(folder)["chat_template_sha256"] is not None


def test_a_missing_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tokenizer\.json: No such file"):
        fingerprint_files(tmp_path)


def test_a_damaged_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tokenizer_config\.json: not JSON"):
        fingerprint_files(model_folder(tmp_path, tokenizer_config__json="{"))

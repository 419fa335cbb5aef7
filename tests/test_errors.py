"""One grammar for every error: what was wrong, what was given, what is allowed, and a hint on its own line."""

import pickle

import pytest

from fanin import errors
from fanin.errors import FaninError, MissingExtraError, UnknownNameError, extra_missing, unknown_name

KINDS = [kind for kind in map(errors.__dict__.get, errors.__all__) if isinstance(kind, type)]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({}, "It is wrong."),
        ({"given": 0}, "It is wrong. Given: 0."),
        ({"given": "text"}, "It is wrong. Given: text."),
        ({"given": ["text"]}, "It is wrong. Given: ['text']."),
        ({"allowed": "1 or more."}, "It is wrong. Allowed: 1 or more."),
        ({"hint": "Try 8."}, "It is wrong.\nHint: Try 8."),
        (
            {"given": False, "allowed": "a number", "hint": "Why?"},
            "It is wrong. Given: False. Allowed: a number.\nHint: Why?",
        ),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", ["It is wrong", "It is wrong."])
def test_grammar(kind, what, parts, message):
    error = kind(what, **parts)
    assert str(error) == message
    assert isinstance(error, FaninError)
    assert (error.given, error.hint) == (parts.get("given"), parts.get("hint"))


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("InvalidValueError", ValueError),
        ("UnknownNameError", LookupError),
        ("DataError", ValueError),
        ("ModelError", ValueError),
        ("StoreError", OSError),
        ("MissingExtraError", ImportError),
    ],
)
def test_each_kind_is_also_the_builtin_that_it_is_like(name, base):
    assert issubclass(getattr(errors, name), base)


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_survives_the_way_between_processes(kind):
    error = kind("It is wrong", given=1, allowed="2", hint="pip install 'x'")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_unknown_name_without_a_near_one():
    error = unknown_name("task", "qqq", ["digits", "mnist"])
    assert isinstance(error, UnknownNameError)
    assert str(error) == "There is no such task. Given: qqq. Allowed: digits, mnist."


def test_unknown_name_offers_the_nearest_whatever_the_case():
    assert unknown_name("task", "MNITS", iter(["digits", "mnist"])).hint == "Did you mean mnist?"
    assert unknown_name("x", "aab", ["aaa", "aac", "zzz"]).hint in {
        "Did you mean aaa or aac?",
        "Did you mean aac or aaa?",
    }


# --------------------------------------------------------------------------------------------- extra_missing
@pytest.mark.parametrize("name", ["keras", "jax", "jax.numpy"])
def test_a_missing_package_of_the_extra(name):
    failed = ModuleNotFoundError(f"No module named {name!r}", name=name)
    error = extra_missing(failed, "keras", ("keras", "jax"), "Training")
    assert isinstance(error, MissingExtraError)
    assert str(error) == (
        f"Training needs a package that is not installed. Given: no module named {name}.\n"
        "Hint: pip install 'fanin[keras]'"
    )


@pytest.mark.parametrize(
    "failed",
    [
        ImportError("keras: libfoo.so not found", name="libfoo"),
        ImportError("No module named 'keras'"),  # the words alone say nothing
        ModuleNotFoundError("No module named 'kerasx'", name="kerasx"),
        ModuleNotFoundError("No module named 'other.keras'", name="other.keras"),
    ],
)
def test_a_broken_package_is_not_a_missing_one(failed):
    assert extra_missing(failed, "keras", ("keras", "jax"), "Training") is failed


def test_a_real_failed_import():
    with pytest.raises(ImportError) as raised:
        import no_such_package_of_ours.part  # noqa: F401
    error = extra_missing(raised.value, "lab", ["no_such_package_of_ours"], "The lab")
    assert "fanin[lab]" in error.hint

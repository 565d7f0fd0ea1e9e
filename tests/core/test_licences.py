"""Known pairs of licences, what is unknown, and that nothing is ever decided in silence."""

import pytest

from codex_space.core.licences import CONFLICT, NONE_CHOSEN, OTHER, TERMS, UNKNOWN, Stated, judge, slug


def judged(base, *data, name=""):
    stated = [Stated(f"bob/d{number}", licence) for number, licence in enumerate(data)]
    return judge(None if base is None else Stated("ada/base", base, name), stated)


@pytest.mark.parametrize(
    ("base", "data"),
    [
        ("apache-2.0", ()),
        ("mit", ("apache-2.0", "cc-by-4.0", "cc0-1.0")),
        ("cc-by-nc-4.0", ("cc-by-nc-4.0", "mit")),
        ("gpl-3.0", ("gpl-3.0", "mit")),
        ("llama3.1", ("mit",)),
        ("bigcode-openrail-m", ("bigcode-openrail-m", "apache-2.0")),
    ],
)
def test_what_goes_together_inherits_the_bases_licence(base, data):
    found = judged(base, *data)
    assert (found.licence, found.name, found.conflicts, found.unknown) == (base, "", (), ())


@pytest.mark.parametrize(
    ("base", "data", "said"),
    [
        ("apache-2.0", "cc-by-nc-4.0", "not for commercial use"),
        ("llama3.1", "cc-by-nc-4.0", "not for commercial use"),
        ("apache-2.0", "cc-by-nc-sa-4.0", "not for commercial use"),
        ("apache-2.0", "cc-by-sa-4.0", "keeps its terms"),
        ("apache-2.0", "gpl-3.0", "keeps its terms"),
        ("cc-by-nc-4.0", "gpl-3.0", "keeps its terms"),
        ("bigcode-openrail-m", "gpl-3.0", "keeps its terms"),
        ("gpl-3.0", "cc-by-nc-4.0", "no further restrictions"),
        ("gpl-3.0", "openrail", "no further restrictions"),
        ("mit", "openrail", "rules on its use"),
        ("mit", "llama3", "rules on its use"),
        ("mit", "cc-by-nd-4.0", "does not allow"),
        ("cc-by-nc-nd-4.0", "mit", "does not allow"),
        (None, "cc-by-nd-4.0", "does not allow"),
    ],
)
def test_a_pair_known_not_to_go_together_is_a_sentence_and_no_licence(base, data, said):
    found = judged(base, data)
    assert (found.licence, found.name) == (OTHER, CONFLICT)
    assert any(said in each for each in found.conflicts), found.conflicts
    assert found.unknown == ()


def test_data_without_a_base_can_be_at_odds_with_itself():
    assert judged(None, "gpl-3.0", "cc-by-nc-4.0").name == CONFLICT
    assert judged(None, "mit", "apache-2.0").name == NONE_CHOSEN
    assert judged(None).name == NONE_CHOSEN


@pytest.mark.parametrize(
    ("base", "data"), [("", ()), ("mit", ("",)), ("mit", ("my-own",)), ("Apache 2", ()), (None, ("",))]
)
def test_unknown_is_said_as_unknown(base, data):
    found = judged(base, *data)
    assert (found.licence, found.name) == (OTHER, UNKNOWN)
    assert len(found.unknown) == 1


def test_a_conflict_outweighs_what_is_unknown_and_both_are_said():
    found = judged("mit", "", "cc-by-nc-4.0")
    assert (found.name, len(found.conflicts), len(found.unknown)) == (CONFLICT, 1, 1)


def test_a_licence_of_a_bases_own_keeps_its_name():
    found = judged("other", name="Qwen Research")
    assert (found.licence, found.name) == (OTHER, "qwen-research")
    assert "Qwen Research" in found.unknown[0]
    assert judged("other", "cc-by-nd-4.0", name="Qwen Research").name == CONFLICT
    assert slug("../<b>\n") == "b"
    assert slug("  ") == UNKNOWN


def test_what_the_base_asks_is_handed_on():
    assert "Built with Llama" in judged("llama3.2").duties[0]
    assert "bigcode-openrail-m" in judged("bigcode-openrail-m").duties[0]
    assert judged("mit").duties == ()


def test_names_in_the_table_are_the_hubs_spelling():
    assert all(name == name.lower() and " " not in name for name in TERMS)

"""Who is in which part, from the tracers of each person alone."""

from dataclasses import dataclass

import pytest

from rela_bids.exceptions import BadDataError, MissingInputError
from rela_bids.splits import (
    check_people,
    count_people,
    read_split,
    settle_split,
    tracers_by_person,
)

PIB, TAU = "11CPIB", "18FAV1451"
BOTH = [PIB, TAU]


@dataclass(frozen=True)
class Visit:
    subject: str
    tracers: tuple[str, ...]


def people(number: int, *tracers: str, first: int = 0) -> dict[str, set[str]]:
    return {f"{n:02d}": set(tracers) for n in range(first, first + number)}


def test_the_tracers_of_all_sessions_are_a_persons():
    visits = [Visit("01", (PIB,)), Visit("02", ()), Visit("01", (TAU,))]
    assert tracers_by_person(visits) == {"01": {PIB, TAU}, "02": set()}


def test_a_fifth_is_held_out_whatever_the_order_of_people():
    twenty = people(20, PIB, TAU)
    split = settle_split(twenty, BOTH, None, seed=1)
    assert sorted(split) == sorted(twenty)
    assert list(split.values()).count("test") == 4
    assert split == settle_split(dict(reversed(twenty.items())), BOTH, None, seed=1)
    assert split != settle_split(twenty, BOTH, None, seed=2)


@pytest.mark.parametrize("seed", range(8))
def test_every_tracer_is_on_both_sides_of_the_split(seed):
    scanned = people(10, PIB) | people(2, TAU, first=9)
    split = settle_split(scanned, BOTH, None, seed)
    for label in BOTH:
        assert {split[s] for s, found in scanned.items() if label in found} == {"train", "test"}
    counts = count_people(scanned, BOTH, split)
    assert counts[TAU] == {"train": 1, "validation": 0, "test": 1}
    assert sum(counts[PIB].values()) == 9


def test_people_without_the_tracers_or_without_a_part_take_no_part():
    scanned = people(4, PIB) | people(2, "18FFDG", first=4) | people(1, first=6)
    assert sorted(settle_split(scanned, [PIB], None, seed=0)) == ["00", "01", "02", "03"]
    given = {"00": "train", "02": "validation", "05": "test", "elsewhere": "test"}
    assert settle_split(scanned, [PIB], given, 0) == {"00": "train", "02": "validation"}


def test_a_settled_split_stays_as_it_is_when_some_people_are_lost_on_the_way():
    twenty = people(20, PIB, TAU)
    split = settle_split(twenty, BOTH, None, seed=1)
    lost = next(s for s, part in split.items() if part == "train")
    left = {s: found for s, found in twenty.items() if s != lost}
    assert settle_split(left, BOTH, split, seed=1) == {s: split[s] for s in left}


@pytest.mark.parametrize(
    ("scanned", "fault"),
    [
        ({}, "nothing to train on"),
        (people(2), "nothing to train on"),
        (people(2, PIB), f"{TAU} has nobody"),
        ({"01": {PIB, TAU}, "02": {PIB}}, rf"{TAU} has one person only \(sub-01\)"),
    ],
)
def test_too_few_people_are_refused_in_one_line(scanned, fault):
    with pytest.raises(BadDataError, match=fault):
        check_people(scanned, BOTH)
    with pytest.raises(BadDataError, match=fault) as error:
        settle_split(scanned, BOTH, None, seed=0)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        (dict.fromkeys(people(6), "train"), "nobody is held out"),
        (dict.fromkeys(people(6), "test"), f"{PIB} has nobody in the training part"),
        ({"00": "train", "01": "test"}, f"{TAU} has nobody with MRI"),
        ({"sub-00": "train"}, "--split gives none of the people"),
    ],
)
def test_a_given_split_without_anybody_to_learn_from_or_to_judge_by_is_refused(given, fault):
    scanned = people(3, PIB) | people(3, PIB, TAU, first=3)
    with pytest.raises(BadDataError, match=fault):
        settle_split(scanned, BOTH, given, seed=0)


def test_a_split_is_read_from_any_table_with_participants(tmp_path):
    path = tmp_path / "participants.tsv"
    path.write_text(
        "participant_id\tage\tpart\nsub-01\t70\ttrain\nsub-02\t71\ttest\nsub-03\t7\tn/a\n"
    )
    assert read_split(path, column="part") == {"01": "train", "02": "test"}
    with pytest.raises(BadDataError, match="columns participant_id and split"):
        read_split(path)
    path.write_text("participant_id\tsplit\nsub-01\tteach\n")
    with pytest.raises(BadDataError, match="sub-01 is in 'teach'; write one of train, validation"):
        read_split(path)
    with pytest.raises(MissingInputError, match="--split"):
        read_split(tmp_path / "none.tsv")

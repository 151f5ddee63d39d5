import json

import pytest

from benchmarks import reliability
from tests.benchmarks.test_compare_masks import coco, masks

HITS = [1, 1, 1, 0]


def scored(found, scores):
    content = coco(found, HITS)
    for record in content["annotations"]:
        record["exits"] |= {"score": scores[record["id"]], "box_iou": 1.0}
    return content


@pytest.fixture
def printed(tmp_path, capsys):
    """Runs the command on drawn files; what it prints."""

    def run(*options, **files):
        for name, content in files.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(content))
        names = [f"{name}={tmp_path}/{name}.json" for name in files if name != "truth"]
        reliability.main([f"--truth={tmp_path}/truth.json", *names, *options])
        return capsys.readouterr().out

    return run


def test_a_bad_mask_with_the_lowest_score_is_found(printed):
    found = masks()
    found[2] = found[3]  # another object's
    out = printed(
        truth=coco(masks()), ours=scored(found, dict.fromkeys(found, 0.9) | {2: 0.1})
    )
    assert "**ours**: 4 masks, 0 objects without; 1 bad" in out
    assert "| score | 100.0 [" in out and "| clicks hit | 50.0 [" in out


def test_what_is_not_bad_has_no_figures(printed):
    scores = dict.fromkeys(masks(), 0.9)
    out = printed(truth=coco(masks()), ours=scored(masks(), scores))
    assert "| score | - | - | - |" in out


def test_what_is_bad_can_be_chosen(printed):
    scores = dict.fromkeys(masks(), 0.9)
    files = {"truth": coco(masks()), "ours": scored(masks(), scores)}
    assert "4 bad (IoU below 1.1)" in printed("--bad_iou=1.1", **files)


def test_a_file_without_scores_is_refused(printed, capsys):
    with pytest.raises(SystemExit):
        printed(truth=coco(masks()), ours=coco(masks()))
    assert "scores none of the masks" in capsys.readouterr().err

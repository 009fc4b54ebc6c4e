import pytest

from edge.config.options import CommandParser
from training.learning.options import as_arguments, chosen_recipe, parse_passing_on
from training.learning.options import training_options as options
from training.learning.recipes import RECIPES
from training.runs.run import Run


def own():
    parser = CommandParser(prog="command", add_help=False)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    return parser


def test_fields_of_the_recipe_survive_the_command_line():
    values = {
        **{"epochs": 3, "head": "pooled", "spec_augment": True, "learning_rate": 0.25},
        **{"prompt": "{label}!", "noise_snr_db": (5.0, 6.0), "mixup": 0.0},
    }
    parsed = options().parse_args(["--dataset", "demo", *as_arguments(values)])
    assert chosen_recipe(parsed) == RECIPES["quick"].override(values)
    off = options().parse_args(
        ["--dataset", "demo", "--recipe", "scratch", *as_arguments({"spec_augment": False})]
    )
    assert chosen_recipe(off) == RECIPES["scratch"].override({"spec_augment": False})


def test_weights_of_a_clap_bring_their_recipe(tmp_path):
    def chosen(*line):
        return chosen_recipe(options().parse_args(["--dataset", "demo", *line]))

    run = Run(tmp_path / "run")
    run.start({"recipe": {"preset": "clap"}}, clips={})
    for source in ("clap-htsat-unfused", str(run.directory)):
        assert chosen("--weights", source) == RECIPES["finetune"]
        other = chosen("--weights", source, "--recipe", "quick", "--epochs", "3")
        assert other == RECIPES["quick"].override({"preset": "clap", "epochs": 3})
        with pytest.raises(ValueError, match=f"{source} is no model of a preset; leave out"):
            chosen("--weights", source, "--preset", "tiny")
    assert chosen("--weights", "gone.keras") == RECIPES["quick"]
    assert chosen("--weights", "gone.keras", "--preset", "small") == RECIPES["scratch"]


@pytest.mark.parametrize("source", ["pretrained", "runs/pretrained/pretrained.npz"])
def test_a_pretrained_tower_brings_its_recipe(source):
    for more in ([], ["--preset", "small"]):
        line = ["--dataset", "demo", "--weights", source, *more]
        assert chosen_recipe(options().parse_args(line)) == RECIPES["pretrained"]


def test_options_of_the_training_are_passed_on():
    line = [
        *("--dataset", "demo", "--seeds", "1", "2", "--noise-snr-db", "5", "6", "--epochs=3"),
        *("--no-spec-augment", "--gain-db", "-3"),
    ]
    parsed, passed_on = parse_passing_on(own(), line)
    assert (parsed.seeds, parsed.epochs, parsed.noise_snr_db) == ([1, 2], 3, [5.0, 6.0])
    assert passed_on == [argument for argument in line if argument not in ("--seeds", "1", "2")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["--dataset", "demo", "--seed", "1"], "unrecognized arguments: --seed 1"),
        (["--dataset", "demo", "--epo", "1"], "unrecognized arguments: --epo 1"),
        (["--dataset", "nothing"], "invalid choice: 'nothing'"),
        ([], "the following arguments are required: --dataset"),
    ],
)
def test_a_wrong_command_line_is_one_line(line, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        parse_passing_on(own(), line)
    [error] = capsys.readouterr().err.splitlines()
    assert error.startswith("command: error: ")
    assert message in error

import pytest

from ptkeras.methods import settings
from ptkeras.methods.settings import SettingsError, parse
from ptkeras.utils.flagging import asks_for_help


def test_defaults_are_a_run_on_the_digits():
    values = parse([])
    assert (values.dataset, values.model, values.method) == ("digits", "resnet20", "prunetrain")
    assert values.learning_rate_drops == []
    assert values.output_dir == "runs/digits_resnet20_prunetrain_seed0"


def test_values_have_their_types():
    values = parse(
        ["--epochs=12", "--learning_rate=1e-3", "--learning_rate_drops=3,5", "--channel_gating"]
    )
    assert values.epochs == 12
    assert values.learning_rate == 0.001
    assert values.learning_rate_drops == [3, 5]
    assert values.channel_gating is True
    assert parse(["--noremove_dead_branches"]).remove_dead_branches is False


def test_flags_behind_a_flagfile_win(tmp_path):
    (tmp_path / "a.flags").write_text("# a comment\n--epochs=7\n--interval=2\n")
    values = parse([f"--flagfile={tmp_path / 'a.flags'}", "--epochs=8"])
    assert (values.epochs, values.interval) == (8, 2)


@pytest.mark.parametrize(
    "flag",
    [
        "--epochs=0",
        "--epochs=abc",
        "--epochs=1.5",
        "--batch_size=0",
        "--batch_size=-3",
        "--learning_rate=0",
        "--learning_rate=-0.1",
        "--learning_rate=nan",
        "--learning_rate=inf",
        "--learning_rate_drops=30,10",
        "--learning_rate_drops=10,10",
        "--learning_rate_drops=0",
        "--learning_rate_drops=a",
        "--learning_rate_drops=60",
        "--momentum=1",
        "--momentum=-0.1",
        "--weight_decay=-1",
        "--weight_decay=nan",
        "--seed=-1",
        "--seed=4294967296",
        "--ratio=0",
        "--ratio=1",
        "--ratio=nan",
        "--interval=0",
        "--interval=61",
        "--threshold=0",
        "--threshold=inf",
        "--measure=median",
        "--channel_gating=maybe",
        "--min_channels=0",
        "--channel_multiple=0",
        "--method=prunetrian",
        "--dataset=",
        "--model= ",
    ],
)
def test_a_value_out_of_range_is_told_of_by_its_flag(flag):
    with pytest.raises(SettingsError) as caught:
        parse([flag])
    message = str(caught.value)
    name, value = flag.split("=")
    assert f"{name}={value}: must " in message
    assert message.endswith(".") and "\n" not in message


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--method=prunetrian"], "did you mean prunetrain?"),
        (["--epoch=3"], "Unknown flag --epoch (did you mean --epochs?)"),
        (["--bogus=3"], "Unknown flag --bogus; --help shows them all."),
        (["digits"], "'digits' is not a flag"),
        (["--epochs"], "epochs"),
        (["--flagfile=/nowhere/x.flags"], "/nowhere/x.flags"),
        (["--interval=20", "--epochs=10"], "--interval=20: must not be longer than --epochs=10"),
        (["--learning_rate_drops=9", "--epochs=5", "--interval=1"], "under --epochs=5"),
    ],
)
def test_the_message_says_what_to_do(arguments, says):
    with pytest.raises(SettingsError) as caught:
        parse(arguments)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_flagfile_that_is_no_text_is_told_of(tmp_path):
    (tmp_path / "a.flags").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="not a text file"):
        parse([f"--flagfile={tmp_path / 'a.flags'}"])


def test_a_dense_run_may_be_shorter_than_the_interval():
    assert parse(["--method=dense", "--epochs=2"]).epochs == 2


def test_the_text_of_settings_is_a_flagfile_that_repeats_them(tmp_path):
    values = parse(
        [
            "--epochs=9",
            "--interval=4",
            "--learning_rate_drops=3,5",
            "--weight_decay=5e-4",
            "--threshold=3e-5",
            "--channel_gating",
            "--data_dir=some where",
            "--output_dir=elsewhere",
        ]
    )
    flagfile = tmp_path / "flags.txt"
    flagfile.write_text(values.to_text())
    again = parse([f"--flagfile={flagfile}"])
    assert again.to_text() == values.to_text()
    assert values.difference(flagfile) is None
    assert again.data_dir == "some where"
    assert "elsewhere" not in values.to_text()


def test_the_first_difference_is_named(tmp_path):
    flagfile = tmp_path / "flags.txt"
    flagfile.write_text(parse(["--epochs=30"]).to_text())
    assert parse([]).difference(flagfile) == "--epochs is 30 there and 60 here"
    flagfile.write_text("nonsense\n")
    with pytest.raises(SettingsError, match="has no flags in it"):
        parse([]).difference(flagfile)
    flagfile.write_text("--seed=0\nnonsense\n")
    with pytest.raises(SettingsError, match="not what a run left there"):
        parse([]).difference(flagfile)


def test_help_has_every_flag_in_lines_that_fit():
    table = settings.table()
    text = table.help_text()
    for name in table.flags:
        assert f"  --{name}" in text
    assert max(map(len, text.splitlines())) <= 100
    assert asks_for_help(["--epochs=3", "--help"])
    assert not asks_for_help(["--epochs=3"])

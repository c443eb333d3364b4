"""A zoo of plugins, good and broken, installed for real into a folder of their own, in a fresh interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

GOOD = """
    import tuneport
    import tuneport.plugin
    TUNEPORT_API = 1
    class Toy(tuneport.Backend):
        name = "{backend}"
        capabilities = tuneport.plugin.Capabilities(methods=frozenset({{"sft"}}))
        settings_class = tuneport.plugin.Settings
        def start(self, request): raise tuneport.errors.UnsupportedError("a toy")
        def job(self, name): raise tuneport.errors.JobNotFound(name)
        def model(self, name): raise tuneport.errors.ModelNotFound(name)
        def plan(self, request): raise tuneport.errors.UnsupportedError("a toy")
    @tuneport.plugin.hookimpl
    def tuneport_backends(): return [Toy()]
"""

PARROT = (Path(__file__).parent / "loader" / "parrot.py").read_text()

LIST = """
    import json
    from tuneport.loader import load
    print(json.dumps([info.to_dict() for info in load().infos()]))
"""


class Zoo:
    """A folder of installed distributions next to the real ones."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def install(self, name: str, source: str, module: str | None = None) -> None:
        module = module or name.replace("-", "_")
        (self.root / f"{module}.py").write_text(textwrap.dedent(source))
        info = self.root / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[tuneport]\n{name} = {module}\n")

    def run(self, code: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            env={**os.environ, "PYTHONPATH": str(self.root), "TUNEPORT_HOME": str(self.root / "home"), **env},
            capture_output=True,
            text=True,
            check=False,
        )

    def infos(self, **env: str) -> dict[str, dict]:
        done = self.run(LIST, **env)
        assert done.returncode == 0, done.stderr
        return {info["name"]: info for info in json.loads(done.stdout)}


@pytest.fixture
def zoo(tmp_path: Path) -> Zoo:
    return Zoo(tmp_path)


def test_a_third_party_backend_is_found_through_its_entry_point_alone(zoo: Zoo) -> None:
    zoo.install("good", GOOD.format(backend="toy"))
    infos = zoo.infos()
    assert infos["good"]["status"] == "ready"
    assert infos["good"]["backends"] == ["toy"]
    assert infos["good"]["version"] == "1.0"
    assert infos["good"]["api"] == 1
    assert infos["good"]["origin"] == str(zoo.root)


@pytest.mark.parametrize(
    ("name", "source", "reason"),
    [
        ("raises", "TUNEPORT_API = 1\nraise RuntimeError('boom at import')", "RuntimeError: boom at import"),
        ("exits", "TUNEPORT_API = 1\nraise SystemExit(3)", "SystemExit: 3"),
        ("syntax", "TUNEPORT_API = 1\ndef (", "SyntaxError"),
        ("missing", "TUNEPORT_API = 1\nimport no_such_package_at_all", "No module named 'no_such_package_at_all'"),
        ("nonumber", "import tuneport", "TUNEPORT_API = None"),
        ("older", "TUNEPORT_API = 0\nraise RuntimeError('must not even be imported')", "plugin API 0"),
        (
            "hookraises",
            "from tuneport.plugin import hookimpl\nTUNEPORT_API = 1\n@hookimpl\ndef tuneport_backends(): open('/no')",
            "FileNotFoundError",
        ),
        (
            "notabackend",
            "from tuneport.plugin import hookimpl\nTUNEPORT_API = 1\n@hookimpl\ndef tuneport_backends(): return [42]",
            "announces 42",
        ),
        (
            "unknownhook",
            "from tuneport.plugin import hookimpl\nTUNEPORT_API = 1\n@hookimpl\ndef tuneport_from_the_future(): pass",
            "tuneport_from_the_future",
        ),
        (
            "wrongarguments",
            "from tuneport.plugin import hookimpl\nTUNEPORT_API = 1\n@hookimpl\ndef tuneport_on_event(nonsense): pass",
            "nonsense",
        ),
    ],
)
def test_a_broken_plugin_is_listed_with_its_reason_and_starves_nobody(
    zoo: Zoo, name: str, source: str, reason: str
) -> None:
    zoo.install(f"a-{name}", source)
    zoo.install("z-good", GOOD.format(backend="toy"))
    infos = zoo.infos()
    assert infos[f"a-{name}"]["status"] == "broken"
    assert reason in infos[f"a-{name}"]["reason"]
    assert infos[f"a-{name}"]["remedy"]
    assert infos["z-good"]["status"] == "ready"
    assert infos["torch"]["status"] in ("ready", "needs")


@pytest.mark.parametrize(
    ("returned", "reason", "remedy"),
    [
        ("[Toy]", "announces the class Toy", "let tuneport_backends return [Toy()]"),
        ("Toy()", "instead of a list", "Return a list of backends"),
        ("None", "tuneport_backends returns None instead of a list", "Return a list of backends"),
        ("{}", "tuneport_backends returns {} instead of a list", "Return a list of backends"),
    ],
)
def test_announcing_the_wrong_thing_says_what_to_announce(zoo: Zoo, returned: str, reason: str, remedy: str) -> None:
    zoo.install("toys", GOOD.format(backend="toy").replace("return [Toy()]", f"return {returned}"))
    found = zoo.infos()["toys"]
    assert found["status"] == "broken"
    assert reason in found["reason"]
    assert remedy in found["remedy"]


CAPABILITIES = 'capabilities = tuneport.plugin.Capabilities(methods=frozenset({"sft"}))'


@pytest.mark.parametrize(
    ("said", "instead", "reason"),
    [
        ('name = "toy"', 'name = ""', "a backend whose name is ''"),
        ('name = "toy"', 'name = "a:b"', "a backend whose name is 'a:b'"),
        ('name = "toy"', 'name = "My Ann"', "a backend whose name is 'My Ann'"),
        ('name = "toy"', 'name = "toy"; packages = "text"', "toy.packages is 'text'"),
        (CAPABILITIES, "", "the backend toy: capabilities is None"),
        ('{"sft"}', '{"SFT"}', "capabilities.methods has SFT"),
        ('frozenset({"sft"})', '["sft"]', "capabilities.methods is ['sft'] (list)"),
        ('frozenset({"sft"})', "frozenset()", "capabilities.methods is empty"),
        ('{"sft"})', '{"sft"}), verbs=frozenset({"stop"})', "capabilities.verbs has stop"),
        ('{"sft"})', '{"sft"}), learning_rate="x"', "capabilities.learning_rate is 'x' (str), not one of absolute"),
        ('{"sft"})', '{"sft"}), max_epochs=0', "capabilities.max_epochs is 0; it must be at least 1"),
        ('{"sft"}', '{"sft", "dpo"}', "trains by 'dpo', and its rules take no rows for it"),
        (
            '{"sft"})',
            '{"sft"}), rules=tuneport.plugin.DataRules(shapes={"sft": {"conversations"}})',
            "conversations is not a shape",
        ),
        (
            '{"sft"})',
            '{"sft"}), rules=tuneport.plugin.DataRules(roles=frozenset({"User"}))',
            "User is not a role",
        ),
        ("@tuneport.plugin.hookimpl", "", "its function tuneport_backends is not marked as a hook"),
        ("TUNEPORT_API = 1", 'TUNEPORT_API = int("1")', "its TUNEPORT_API is computed"),
    ],
)
def test_a_declaration_that_does_not_fit_together_is_found_when_the_plugin_is_loaded(
    zoo: Zoo, said: str, instead: str, reason: str
) -> None:
    source = textwrap.dedent(GOOD.format(backend="toy"))
    assert said in source
    zoo.install("toys", source.replace(said, instead))
    found = zoo.infos()["toys"]
    assert found["status"] == "broken"
    assert reason in found["reason"]
    assert found["remedy"]


def test_a_declared_verb_without_its_method_is_found_when_the_plugin_is_loaded(zoo: Zoo) -> None:
    source = textwrap.dedent(GOOD.format(backend="toy")).replace('{"sft"})', '{"sft"}), verbs=frozenset({"pause"})')
    job = "class ToyJob(tuneport.Job): pass\nclass Toy(tuneport.Backend)"
    source = source.replace("class Toy(tuneport.Backend)", job).replace("job(self, name)", "job(self, name) -> ToyJob")
    zoo.install("toys", source)
    assert "declares the verb 'pause', and its jobs do not define pause()" in zoo.infos()["toys"]["reason"]


def test_a_third_party_plugin_cannot_take_a_built_in_backends_name(zoo: Zoo) -> None:
    zoo.install("aaa-first", GOOD.format(backend="torch"))
    infos = zoo.infos()
    assert infos["aaa-first"]["status"] == "broken"
    assert "already belongs to the plugin 'torch'" in infos["aaa-first"]["reason"]
    assert infos["torch"]["backends"] == ["torch"]


def test_tuneport_plugins_allows_only_those_named_and_ours(zoo: Zoo) -> None:
    zoo.install("good-one", GOOD.format(backend="one"))
    zoo.install("good-two", GOOD.format(backend="two"))
    infos = zoo.infos(TUNEPORT_PLUGINS="good_two")
    assert infos["good-one"]["status"] == "off"
    assert infos["good-two"]["status"] == "ready"
    infos = zoo.infos(TUNEPORT_PLUGINS="")
    assert infos["good-one"]["status"] == infos["good-two"]["status"] == "off"
    assert infos["torch"]["status"] in ("ready", "needs")


def test_strict_raises_what_a_plugin_raised(zoo: Zoo) -> None:
    zoo.install("raises", "TUNEPORT_API = 1\nraise RuntimeError('boom at import')")
    done = zoo.run(LIST, TUNEPORT_STRICT="1")
    assert done.returncode != 0
    assert "boom at import" in done.stderr


def test_asking_for_a_missing_backend_names_the_broken_plugins(zoo: Zoo) -> None:
    zoo.install("raises", "TUNEPORT_API = 1\nraise RuntimeError('boom at import')")
    done = zoo.run(
        """
        import tuneport
        import tuneport.plugin
        from tuneport.loader import load
        try:
            load().backend("nosuch")
        except tuneport.errors.BackendNotFound as error:
            print(error)
        """
    )
    first = done.stdout.splitlines()[0]
    assert first.startswith("No backend is called 'nosuch'. The backends are ")
    assert "torch" in first
    assert "raises (RuntimeError: boom at import)" in done.stdout


def test_a_missing_package_is_needed_not_broken(zoo: Zoo) -> None:
    source = textwrap.dedent(GOOD.format(backend="toy")).replace(
        'name = "toy"', 'name = "toy"; packages = ("no_such_sdk",); install = "pip install no-such-sdk"'
    )
    zoo.install("needy", source)
    info = zoo.infos()["needy"]
    assert info["status"] == "needs"
    assert "no_such_sdk" in info["reason"]
    assert "pip install no-such-sdk" in info["remedy"]


def test_an_availability_check_that_raises_does_not_hide_the_other_plugins(zoo: Zoo) -> None:
    source = textwrap.dedent(GOOD.format(backend="toy")) + (
        "\nToy.availability = lambda self: (_ for _ in ()).throw(RuntimeError('no driver'))\n"
    )
    zoo.install("grumpy", source)
    zoo.install("z-good", GOOD.format(backend="other"))
    infos = zoo.infos()
    assert infos["grumpy"]["status"] == "needs"
    assert "no driver" in infos["grumpy"]["reason"]
    assert infos["z-good"]["status"] == "ready"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("ValueError('no list today')", "The backend 'toy' failed in Backend.bases: ValueError: no list today"),
        ("tuneport.errors.UnavailableError('no key', remedy='Set TOY_KEY.')", "toy: no key Set TOY_KEY."),
    ],
)
def test_a_backend_that_cannot_list_its_models_hides_no_other(zoo: Zoo, error: str, message: str) -> None:
    lists = f"    def bases(self): raise {error}\n    @tuneport.plugin.hookimpl\n"
    zoo.install("a-silent", GOOD.format(backend="toy").replace("    @tuneport.plugin.hookimpl\n", f"    {lists}", 1))
    zoo.install("z-parrot", PARROT)
    done = zoo.run(CLI.format(arguments=["models"]))
    assert done.returncode == 0
    assert "parrot:gray" in done.stdout
    assert "warning: The models of toy are not listed: " + message in done.stderr
    failed = json.loads(zoo.run(CLI.format(arguments=["models", "--json"])).stdout)["failed"]
    assert " ".join(failed["toy"].split()).startswith(message)
    done = zoo.run("import tuneport; print([str(one.ref) for one in tuneport.models()])")
    assert "parrot:gray" in done.stdout
    assert message in " ".join(done.stderr.split())


def test_a_thread_that_asks_while_plugins_announce_waits_for_all_of_them(zoo: Zoo) -> None:
    slow = GOOD.format(backend="slow").replace("return [Toy()]", "import time; time.sleep(0.3); return [Toy()]")
    zoo.install("a-slow", slow)
    zoo.install("z-good", GOOD.format(backend="toy"))
    done = zoo.run(
        """
        import threading
        from tuneport.loader import load
        plugins, seen = load(), []
        def look(): seen.append({"slow", "toy"} <= set(plugins.backends()))
        threads = [threading.Thread(target=look) for _ in range(3)]
        for one in threads: one.start()
        for one in threads: one.join()
        print(seen)
        """
    )
    assert done.stdout.strip() == "[True, True, True]", done.stderr


def test_a_raising_observer_starves_no_other(zoo: Zoo) -> None:
    observer = """
        import tuneport
        import tuneport.plugin
        TUNEPORT_API = 1
        @tuneport.plugin.hookimpl
        def tuneport_on_event(job, event):
            {body}
    """
    zoo.install("a-raises", textwrap.dedent(observer).format(body="raise RuntimeError('observer')"))
    zoo.install("b-prints", textwrap.dedent(observer).format(body="print('saw', event.seq)"))
    done = zoo.run(
        """
        import tuneport
        import tuneport.plugin
        from tuneport.loader import load
        plugins = load()
        event = tuneport.Event(seq=7, time=tuneport.plugin.utc_now(), kind="log", message="hello")
        print([plugins.notify(name, None, event) for name in plugins.observers()])
        """
    )
    assert done.stdout.splitlines() == ["saw 7", "['RuntimeError: observer', None]"], done.stderr


def test_a_plugin_opens_a_source_that_tuneport_does_not_know(zoo: Zoo) -> None:
    zoo.install(
        "opener",
        """
        import tuneport
        import tuneport.plugin
        TUNEPORT_API = 1
        @tuneport.plugin.hookimpl
        def tuneport_open_dataset(source):
            if str(source).startswith("toy://"):
                row = tuneport.Completion(prompt="a", completion=str(source))
                return tuneport.Dataset.from_examples([row])
        """,
    )
    done = zoo.run("import tuneport; print(list(tuneport.load_dataset('toy://x'))[0].completion)")
    assert done.stdout.strip() == "toy://x", done.stderr


COMMANDS = """
    import typer, tuneport
    TUNEPORT_API = 1
    def parade():
        "March."
        typer.echo("marching")
    @tuneport.plugin.hookimpl
    def tuneport_commands(app): app.command("parade")(parade)
"""
CLI = "from tuneport.cli import main; main({arguments!r})"


def test_a_plugin_adds_commands_and_one_that_breaks_there_hides_none(zoo: Zoo) -> None:
    zoo.install("a-breaks", COMMANDS.replace('app.command("parade")(parade)', "app.nonsense()"))
    zoo.install("z-parades", COMMANDS)
    done = zoo.run(CLI.format(arguments=["--help"]))
    assert done.returncode == 0, done.stderr
    assert "March." in done.stdout
    assert "check" in done.stdout
    assert "The plugin 'a-breaks' failed in tuneport_commands" in done.stderr
    assert zoo.run(CLI.format(arguments=["parade"])).stdout == "marching\n"


def test_plugins_are_not_imported_where_the_core_knows_the_command(zoo: Zoo) -> None:
    zoo.install("loud", "TUNEPORT_API = 1\nprint('imported')")
    assert "imported" in zoo.run(CLI.format(arguments=["--help"])).stdout
    for arguments in (["--version"], ["check", "--help"]):
        assert "imported" not in zoo.run(CLI.format(arguments=arguments)).stdout

"""What is handed to Kubernetes, SkyPilot and Docker, without any of them."""

import fnmatch
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.test_launch import (
    AWKWARD,
    GKE,
    ROOT,
    find_shellcheck,
    plant,
    program,
    run,
    run_dry,
)

LAUNCH = ROOT / "launch"
DOCKERFILES = sorted((LAUNCH / "docker").glob("*.Dockerfile"))
STAGE1_DOCKERFILES = [path for path in DOCKERFILES if path.name[:6] != "stage2"]
EXTRAS = {"cpu": "'.'", "cuda": "'.[cuda]'", "tpu": "'.[tpu]'"}

# Fields of https://docs.skypilot.co/en/latest/reference/yaml-spec.html and, for
# job_recovery, of its page on managed jobs.
SKYPILOT = {
    "task": {
        *("name", "workdir", "num_nodes", "resources", "envs", "secrets"),
        *("file_mounts", "volumes", "setup", "run", "config"),
    },
    "resources": {
        *("infra", "accelerators", "accelerator_args", "cpus", "memory"),
        *("instance_type", "use_spot", "disk_size", "disk_tier", "network_tier"),
        *("image_id", "ports", "labels", "autostop", "any_of", "ordered"),
        *("job_recovery", "max_hourly_cost"),
    },
    "job_recovery": {"strategy", "max_restarts_on_errors", "recover_on_exit_codes"},
    "mount": {"name", "source", "store", "persistent", "mode"},
}


def jobset(*flags, **changes):
    done = run_dry("gke.sh", "configs/coco.py", *flags, **(GKE | changes))
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)


def pod_of(manifest):
    return job_of(manifest)["template"]["spec"]


def job_of(manifest):
    [only] = manifest["spec"]["replicatedJobs"]
    assert only["replicas"] == 1
    return only["template"]["spec"]


def test_jobset_with_unfilled_placeholders_is_no_yaml():
    with pytest.raises(yaml.YAMLError):
        yaml.safe_load((LAUNCH / "gke_jobset.yaml").read_text())


def test_jobset_names_its_kind_and_its_run():
    manifest = jobset()
    assert manifest["apiVersion"] == "jobset.x-k8s.io/v1alpha2"
    assert manifest["kind"] == "JobSet"
    assert manifest["metadata"]["name"] == "exits-coco"
    assert "@" not in yaml.safe_dump(manifest)


@pytest.mark.parametrize(
    "topology, chips, hosts", [("4x4", 4, 4), ("2x4", 8, 1), ("2x2x4", 4, 4)]
)
def test_jobset_has_one_pod_for_each_host_of_the_slice(topology, chips, hosts):
    manifest = jobset(TOPOLOGY=topology, CHIPS_PER_HOST=str(chips))
    job, pod = job_of(manifest), pod_of(manifest)
    assert job["completions"] == job["parallelism"] == hosts
    assert job["completionMode"] == "Indexed"
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": topology,
    }
    [container] = pod["containers"]
    assert container["resources"]["limits"] == {"google.com/tpu": chips}


def test_jobset_pods_find_each_other():
    manifest = jobset()
    network = manifest["spec"]["network"]
    assert network == {"enableDNSHostnames": True, "publishNotReadyAddresses": True}
    [container] = pod_of(manifest)["containers"]
    assert {port["containerPort"] for port in container["ports"]} == {8471, 8482}
    assert container["args"][0] == "--distributed"


def test_jobset_starts_a_saved_run_again_and_a_failing_one_three_times():
    manifest = jobset()
    job, pod = job_of(manifest), pod_of(manifest)
    # A pod failure policy needs pods that are never restarted in place.
    assert pod["restartPolicy"] == "Never"
    assert job["backoffLimit"] == 0
    saved, gone = job["podFailurePolicy"]["rules"]
    assert saved["action"] == gone["action"] == "FailJob"
    assert saved["onExitCodes"] == {
        "containerName": pod["containers"][0]["name"],
        "operator": "In",
        "values": [75],
    }
    assert gone["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    policy = manifest["spec"]["failurePolicy"]
    assert policy["maxRestarts"] == 3
    [rule] = policy["rules"]
    assert rule["action"] == "RestartJobSetAndIgnoreMaxRestarts"
    assert rule["onJobFailureReasons"] == ["PodFailurePolicy"]


def test_jobset_mounts_the_volume_where_the_image_works():
    pod = pod_of(jobset())
    [container], [volume] = pod["containers"], pod["volumes"]
    assert volume["persistentVolumeClaim"] == {"claimName": "exits"}
    folder = dict(instructions(LAUNCH / "docker/tpu.Dockerfile"))["WORKDIR"]
    assert {
        mount["mountPath"]: mount.get("readOnly", False)
        for mount in container["volumeMounts"]
        if mount["name"] == volume["name"]
    } == {f"{folder}/data": True, f"{folder}/weights": True, f"{folder}/runs": False}


def test_jobset_passes_flags_on_as_they_were_given():
    [container] = pod_of(jobset(*AWKWARD, "--note=@NAME@"))["containers"]
    # Kubernetes reads $$( as $( and $( as the name of a variable.
    assert container["args"][:2] == ["--distributed", "--config=configs/coco.py"]
    arrived = [each.replace("$$(", "$(") for each in container["args"][2:]]
    assert arrived == [*AWKWARD, "--note=@NAME@"]
    assert "$$(id)" in container["args"][3]


@pytest.mark.parametrize(
    "variable, value",
    [
        ("NAME", "Exits_1"),
        ("NAME", "a" * 41),
        ("IMAGE", 'a", b: "c'),
        ("CLAIM", "my claim"),
        ("ACCELERATOR", "TPU v5e"),
        ("TOPOLOGY", "16"),
        ("TOPOLOGY", "3x3"),
        ("CHIPS_PER_HOST", "0"),
        ("CHIPS_PER_HOST", "08"),
        ("CHIPS_PER_HOST", "a[$(id)]"),
    ],
)
def test_a_variable_that_makes_no_sense_is_refused_by_name(variable, value):
    refused = run_dry("gke.sh", "configs/coco.py", **(GKE | {variable: value}))
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert variable in refused.stderr and value in refused.stderr


def test_a_flag_of_several_lines_is_refused():
    refused = run_dry("gke.sh", "configs/coco.py", "--x=a\nb", **GKE)
    assert refused.returncode == 2
    assert "control character" in refused.stderr


def test_kubectl_gets_the_manifest_that_a_dry_run_shows(tmp_path):
    program(tmp_path / "kubectl", '#!/usr/bin/env bash\necho "$@"\nexec cat\n')
    path = run("-c", 'echo "$PATH"').stdout.strip()
    given = GKE | {"PATH": f"{tmp_path}:{path}"}
    done = run(LAUNCH / "gke.sh", "configs/coco.py", **given)
    command, _, manifest = done.stdout.partition("\n")
    assert command == "apply --filename=-"
    assert manifest == run_dry("gke.sh", "configs/coco.py", **GKE).stdout


@pytest.fixture(scope="module")
def task():
    return yaml.safe_load((LAUNCH / "skypilot.yaml").read_text())


def test_skypilot_task_has_known_fields_alone(task):
    assert set(task) <= SKYPILOT["task"]
    assert set(task["resources"]) <= SKYPILOT["resources"]
    assert set(task["resources"]["job_recovery"]) <= SKYPILOT["job_recovery"]
    for mount in task["file_mounts"].values():
        assert set(mount) <= SKYPILOT["mount"]
        assert mount["mode"] in {"MOUNT", "COPY", "MOUNT_CACHED"}


def test_skypilot_recovers_a_spot_machine_and_a_saved_run(task):
    assert task["resources"]["use_spot"] is True
    recovery = task["resources"]["job_recovery"]
    assert recovery["strategy"] in {"FAILOVER", "EAGER_NEXT_REGION"}
    assert recovery["recover_on_exit_codes"] == [75]


def test_skypilot_asks_for_what_only_the_user_knows(task):
    asked = {name for name, value in task["envs"].items() if value is None}
    assert asked == {"CONFIG", "DATA", "RUNS"}
    sources = [mount["source"] for mount in task["file_mounts"].values()]
    assert sources == ["${DATA}", "${RUNS}"]


@pytest.mark.parametrize("part", ["setup", "run"])
def test_shellcheck_finds_nothing_in_the_skypilot_task(task, part):
    # SC2154: the variables under envs are set by SkyPilot.
    command = [find_shellcheck(), "--shell=bash", "--exclude=SC2154", "-"]
    checked = subprocess.run(
        command, input=task[part], capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout) == (0, "")


def test_skypilot_passes_quoted_flags_on(task, tmp_path):
    given = {"CONFIG": "configs/my set.py", "FLAGS": "--workdir='runs/a b' --x=\"c d\""}
    script = f"cd '{plant(tmp_path)}'\n{task['run']}"
    done = run("-c", script, **given)
    assert done.stdout.split("\0")[2:-1] == [
        "--config=configs/my set.py",
        "--workdir=runs/a b",
        "--x=c d",
    ]
    assert {(tmp_path / name).is_symlink() for name in ("data", "weights", "runs")} == {
        True
    }


def instructions(path: Path) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile as (word, rest), comments left out."""
    lines = [line for line in path.read_text().splitlines() if line[:1] != "#"]
    text = "\n".join(lines).replace("\\\n", " ")
    parts = [line.partition(" ") for line in text.splitlines() if line.strip()]
    return [(word, rest.strip()) for word, _, rest in parts]


def test_there_is_an_image_for_each_kind_of_device():
    names = {path.name.partition(".")[0] for path in DOCKERFILES}
    assert names == {*EXTRAS, "stage2"}


def test_the_image_of_stage2_makes_its_environment_and_runs_as_a_user():
    steps = instructions(ROOT / "launch/docker/stage2.Dockerfile")
    assert steps[:2] == [("ARG", "BASE=python:3.11-slim"), ("FROM", "${BASE}")]
    installs = " ".join(rest for word, rest in steps if word == "RUN")
    assert "STAGE2_VENV=/opt/stage2 launch/stage2_env.sh" in installs
    assert "useradd --uid 1000" in installs and steps[-2] == ("USER", "1000")
    entry = '["/opt/stage2/bin/python", "-m", "exits_jax.stage2"]'
    assert steps[-1] == ("ENTRYPOINT", entry)


@pytest.mark.parametrize("path", STAGE1_DOCKERFILES, ids=lambda path: path.name)
def test_image_installs_pinned_versions_and_runs_as_a_user(path):
    steps = instructions(path)
    assert steps[0] == ("FROM", "python:3.11-slim")
    assert [word for word, _ in steps].count("FROM") == 1
    installs = " ".join(rest for word, rest in steps if word == "RUN")
    extra = EXTRAS[path.name.partition(".")[0]]
    assert f"pip install -c constraints.txt -e {extra} " in installs
    assert installs.count("pip install") == 1
    # The last user is who runs, and is made before.
    users = [rest for word, rest in steps if word == "USER"]
    assert users == ["exits"] and "useradd --uid 1000" in installs
    assert steps[-2][0] == "USER"
    assert steps[-1] == ("ENTRYPOINT", '["python", "-m", "exits_jax.main"]')


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_image_fetches_nothing_by_itself_and_holds_no_secret(path):
    steps = instructions(path)
    assert "ADD" not in {word for word, _ in steps}
    body = "\n".join(" ".join(step) for step in steps)
    assert not re.search(r"https?://|curl|wget|(?i:token|password|secret|_key)", body)


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_what_an_image_copies_exists_and_is_not_ignored(path):
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    assert rules[1] == "*"
    kept = [rule[1:] for rule in rules if rule.startswith("!")]
    copies = [rest.split()[:-1] for word, rest in instructions(path) if word == "COPY"]
    sources = [source for sources in copies for source in sources]
    assert len(sources) >= 4
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(fnmatch.fnmatch(source, rule) for rule in kept), source

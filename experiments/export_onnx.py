"""Writes the agents' network of a checkpoint as an ONNX file: `python -m experiments.export_onnx FOLDER`.

One call of it is one step; its hidden state is an input and an output. Needs `pip install -r requirements-onnx.txt`.
"""

import importlib
from collections.abc import Sequence
from pathlib import Path

import torch as th

from run import Policy, load_policy
from utils.command import Parser, exit_status, run_program
from utils.dict2namedtuple import unfrozen
from utils.errors import UserError

DESCRIPTION = "Writes the agents' network of a checkpoint as an ONNX file, with its hidden state as input and output."


def export(folder: str | Path, file: str | Path) -> None:
    """Writes the network of the checkpoint in `folder` to `file`.

    Inputs of the file are `inputs` [rows, in] and `hidden_state` [rows, H], zeros before the first step; outputs are
    `outputs` [rows, n_actions], values or logits, and `next_hidden_state` [rows, H]. A row is an agent. `in` is the
    observation, then, as the metadata say, the one-hot last action (zeros at first) and the agent's one-hot id.

    Raises: UserError where the folder is no checkpoint, the policy has other networks, or packages are missing.
    """
    policy = load_policy(folder)
    if others := policy.mac.networks().keys() - {"agent"}:
        raise UserError(
            f"{folder} acts by more than the agents' network ({', '.join(sorted(others))}), which one ONNX file can't "
            "hold; export a policy without agent model, such as --config=qmix"
        )
    for package in ("onnx", "onnxscript"):
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise UserError(
                f"exporting needs the package {package}, which can't be imported ({error}); "
                "get it with `pip install -r requirements-onnx.txt`"
            ) from error
    agent = policy.mac.agent.eval()
    n_rows = 2 * policy.mac.n_agents
    hidden = agent.init_hidden().expand(n_rows, -1)
    rows = th.export.Dim("rows") if policy.mac.args.agent != "idv_rnn" else None  # that one counts the agents in rows
    program = th.onnx.export(
        agent,
        (th.zeros(n_rows, _width(policy)), hidden.clone()),
        input_names=["inputs", "hidden_state"],
        output_names=["outputs", "next_hidden_state"],
        dynamic_shapes=({0: rows}, {0: rows}) if rows else None,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    program.model.metadata_props.update({name: str(value) for name, value in _layout(policy).items()})
    program.save(str(file))


def _width(policy: Policy) -> int:
    return policy.mac.input_size({"obs": {"vshape": policy.mac.args.fields["obs"]["vshape"]}})


def _layout(policy: Policy) -> dict[str, object]:
    names = ("n_agents", "n_actions", "obs_shape", "obs_last_action", "obs_agent_id", "agent_output_type")
    settings = unfrozen(policy.mac.args)
    return {name: settings[name] for name in names}


def main(argv: Sequence[str] | None = None) -> int:
    """Exports and prints the file; returns the exit status: 2 after a user's mistake."""
    parser = Parser(prog="python -m experiments.export_onnx", description=DESCRIPTION)
    parser.add_argument("folder", type=Path, help="of a checkpoint, results/models/<run>/<step>")
    parser.add_argument("--out", type=Path, help="the file to write (default: agent.onnx in that folder)")

    def work() -> None:
        args = parser.parse_args(argv)
        file = args.out or args.folder / "agent.onnx"
        export(args.folder, file)
        print(file)

    return exit_status(work)


if __name__ == "__main__":
    run_program(main)

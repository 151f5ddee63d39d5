"""What errors of the runtime mean for the person who started the run."""

_LOST = (
    "connection closed by peer",
    "connection reset by peer",
    "connection refused",
    "socket closed",
    "heartbeat",
    "coordination service",
    "gloo",
    "task died",
)


def explain(error: BaseException) -> str | None:
    """An error of the runtime as one message, or None if it is of no known kind."""
    said = str(error)
    line = said.strip().partition("\n")[0][:300]
    if "RESOURCE_EXHAUSTED" in said or "out of memory" in said.lower():
        return (
            f"The devices have too little memory ({line}). Try "
            "--config.model.remat=block, a larger --config.grad_accum (parts of a "
            "batch, one after the other), a larger --config.mesh.fsdp (parameters "
            "split over devices), or a smaller --config.batch_size, which makes it "
            "another run and needs another --workdir."
        )
    if any(sign in said.lower() for sign in _LOST):
        return (
            f"lost another process of this run ({line}). See what it says; start all "
            "processes again to go on from the last checkpoint."
        )
    return None

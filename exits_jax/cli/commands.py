"""The commands of `exits-jax`: what each does, and the fields that are its own."""

from typing import NamedTuple


class Command(NamedTuple):
    """One word behind `exits-jax`."""

    summary: str
    # Sections and fields of the configuration that its help lists.
    own: tuple[str, ...] = ()
    # Sections that it reads as well.
    shared: tuple[str, ...] = ()
    # The configuration used without --config and without an earlier run.
    default: str = ""
    # What runs it, if it reads no configuration: a module with `main(argv)`.
    module: str = ""


_TRAINING = (
    "batch_size",
    "grad_accum",
    "mesh",
    "crop",
    "augment",
    "model",
    "init",
    "optimizer",
)
COMMANDS = {
    "run": Command(
        "Runs the phases from prepare to evaluate that are not done.",
        own=(
            "workdir",
            "seed",
            "compilation_cache",
            *("data", *_TRAINING, "decoder", "pretrain", "warmup", "similarity"),
            *("points", "walk", "labels", "prompt", "loss", "train"),
            *("generate", "dense_crf", "evaluate"),
        ),
    ),
    "prepare": Command(
        "Checks annotations and images, derives extreme points, removes masks.",
        own=("seed", "data"),
    ),
    "pretrain": Command(
        "Trains an encoder as a masked autoencoder, where none is at hand.",
        own=("pretrain", *_TRAINING),
        shared=("data",),
    ),
    "warmup": Command(
        "Trains the similarity extractor with the box-tightness loss.",
        own=("warmup", "similarity", "decoder"),
        shared=("data", "points", *_TRAINING),
    ),
    "train": Command(
        "Trains the pseudo label generator.",
        own=("train", "loss", "points", "labels", "prompt"),
        shared=("data", "decoder", "similarity", "walk", "dense_crf", *_TRAINING),
    ),
    "generate": Command(
        "Writes one mask per annotated object as COCO JSON.",
        own=("generate", "walk", "dense_crf"),
        shared=("data", "crop", "model", "decoder", "prompt"),
    ),
    "evaluate": Command(
        "Compares the masks with true ones, boxes, octagons and GrabCut.",
        own=("evaluate",),
        shared=("data", "generate"),
    ),
    "import": Command(
        "Turns annotations of another tool into a COCO JSON.",
        own=("imports", "data.images", "data.max_skip_fraction", "data.follow_links"),
        default="custom",
    ),
    "validate": Command(
        "Checks annotations and images without training anything.",
        own=("data",),
        default="custom",
    ),
    "pack": Command(
        "Writes prepared data as shards for storage that is slow with small files.",
        own=(
            *("data.shards", "data.shard_mb", "data.name", "data.num_workers"),
            "data.follow_links",
        ),
    ),
    "export": Command(
        "Writes the masks in the format of another tool.",
        own=("export", "data.images"),
        default="custom",
    ),
    "stage2": Command(
        "Trains an mmdet model on the masks, in an environment of its own.",
        own=("stage2",),
        shared=("evaluate",),
    ),
    "predict": Command(
        "Masks for new clicks, of one image or of a file, by a finished model.",
        module="exits_jax.predict.__main__",
    ),
    "annotate": Command(
        "A page in the browser where four clicks give a mask, and masks are reviewed.",
        module="exits_jax.annotate.__main__",
    ),
    "convert": Command(
        "Converts weights of others to our names, and trained generators back.",
        module="exits_jax.convert_weights.__main__",
    ),
    "ablations": Command(
        "Runs tables of the paper's ablations end to end.",
        module="exits_jax.ablations.__main__",
    ),
    "results": Command(
        "Writes results of stage 2 as tables, beside the paper's.",
        module="exits_jax.stage2.results",
    ),
}
# The phases of `run`, in their order.
PHASES = ("prepare", "pretrain", "warmup", "train", "generate", "evaluate")
# Run only when asked for.
TOOLS = ("import", "validate", "pack", "export", "stage2")

"""Every field, with the value shared by the data sets and where it comes from.

"Paper": Lee, Hwang, Kwak, Extreme Point Supervised Instance Segmentation, CVPR 2024.
"Baseline": Mask Auto-Labeler, which the paper follows where it is silent.
"Ours": a choice that neither makes; docs/reproduction.md gives the reason.
"""

import ml_collections as mlc
from ml_collections.config_dict import placeholder


def get_config() -> mlc.ConfigDict:
    config = mlc.ConfigDict()
    config.workdir = "runs/base"
    config.seed = 0  # baseline
    config.batch_size = 32  # over all devices; baseline: 8 GPUs x 4
    config.grad_accum = 1  # parts of a batch that are computed one after the other
    config.compilation_cache = ""  # folder; empty: WORKDIR/compilation_cache

    config.mesh = mesh = mlc.ConfigDict()  # devices; -1: as many as are left
    mesh.data = -1  # the batch alone is split over this axis
    mesh.fsdp = 1  # batch, parameters, optimizer and teacher over this one

    config.data = data = mlc.ConfigDict()
    data.train = ""  # COCO instances JSON: extreme points, or masks to take them from
    data.images = ""  # folder that its file names are relative to
    data.val = ""  # likewise, for evaluation; empty: evaluate on `train`
    data.val_images = ""  # empty: the same folder as `images`
    data.voc = mlc.ConfigDict()  # VOC's own files instead of `train` and `val`
    data.voc.devkit = ""  # .../VOCdevkit/VOC2012
    data.voc.sbd = ""  # .../benchmark_RELEASE/dataset; empty: VOC's 1,464 images alone
    data.shards = ""  # folder or bucket of packed data sets; empty: image files
    data.shard_mb = 256  # size of a shard that `pack` writes
    data.shard_cache = ""  # local folder that shards are copied to first
    data.name = "custom"  # of the packed data set: "custom", "voc", "coco" or "lvis"
    data.points = "extremenet"  # Sec. 4.1: ExtremeNet's rule; "clean": on the object
    data.noise = mlc.ConfigDict()  # changes points made from masks, to study it
    data.noise.kind = "none"  # "px", "share" of the box, or "run" along the extreme
    data.noise.amount = 0.0  # deviation in px or shares; "run": share of the points
    data.on_bad = "skip"  # a bad record or image: "skip" (listed) or "error"
    data.max_skip_fraction = 0.5  # more bad records than this are an error anyway
    data.verify_images = True  # decode every image once before training starts
    data.follow_links = False  # links that lead out of the image folder
    data.min_area_px = 2048.0  # baseline: box area of the objects trained on
    data.min_side_px = 2.0  # baseline: box sides of the objects used at all
    data.cache_mb = 256  # decoded images kept in memory, per process
    data.num_workers = 0  # processes that make batches; 0: threads of this one
    data.num_threads = 4
    data.read_retries = 3  # of a read that fails for a reason that may pass
    data.stall_s = 120.0  # a step that waits longer for its input says so
    data.scenes = mlc.ConfigDict()  # drawn scenes instead of files, for the quickstart
    data.scenes.num_train = 0
    data.scenes.num_val = 0

    # `--phase=import`: annotations of another tool to a COCO JSON. The flags are
    # --config.import.kind and so on.
    config.importing = importing = mlc.ConfigDict()
    importing.kind = ""  # such as "cvat"; docs/importing.md lists them
    importing.source = ""
    importing.out = ""  # empty: WORKDIR/imported.json
    importing.categories = ""  # text file of class names; empty: as they come
    importing.class_names = ""  # Open Images: CSV of display names
    importing.keep_group_of = False  # Open Images: boxes around groups
    importing.keep_depictions = True  # Open Images: drawings, toys, ...

    config.crop = crop = mlc.ConfigDict()
    crop.size = 512  # Sec. 4.1
    crop.train_margin = 1.2  # baseline
    crop.test_margin = 0.6  # baseline: 0.3 on each side
    crop.flip_rate = 0.5  # baseline
    crop.photometric = True  # baseline: jitter, grey and blur of the student's view

    config.augment = mlc.ConfigDict()
    config.augment.on_device = False  # photometric changes by the accelerator

    config.model = model = mlc.ConfigDict()
    model.size = "base"  # Sec. 4.1: ViT-Base
    model.dim = placeholder(int)  # given: overrides the size's
    model.depth = placeholder(int)
    model.heads = placeholder(int)
    model.patch_size = 16  # Sec. 3.2.1 with N = 32
    model.position_grid = 14  # MAE: table of 224 px images, interpolated
    model.position_offset = 0.0  # baseline: 0.1
    model.class_token = True  # baseline: kept in the encoder, not passed on
    model.stem = "patch"  # generator; "conv": the baseline's stem (93 M, Table a5)
    model.extractor_stem = "patch"  # similarity extractor (86 M, Table a5)
    model.extractor_init = "normal"  # baseline; "xavier": MAE, for random weights
    model.extractor_query_is_key = False  # ours: W_k starts as W_q, likewise
    model.attention = "auto"  # all heads "together", or "by_head": faster on a CPU
    model.scan = False  # one block compiled for all: shorter compilation
    model.remat = "none"  # recomputed backwards: "dots" all but products, or "block"
    model.dtype = "bfloat16"  # activations; parameters and losses are float32

    config.decoder = decoder = mlc.ConfigDict()
    decoder.features = 256  # Supp. A: D/3
    decoder.size_dependent = True  # baseline
    decoder.fixed_scale = 1.0  # used without `size_dependent`
    decoder.upsample_before = 4  # Supp. A, counted from zero as the baseline does

    config.init = init = mlc.ConfigDict()
    init.encoder = ""  # safetensors by convert_weights; empty: random
    init.extractor = ""  # the extractor's alone (Table a4); empty: as `encoder`
    init.generator = placeholder(str)  # likewise, a whole generator; None: see below
    init.image_mean = (0.485, 0.456, 0.406)  # MAE
    init.image_std = (0.229, 0.224, 0.225)
    init.generator_from = "encoder"  # paper: as the extractor; or "pretrain", "warmup"

    config.similarity = similarity = mlc.ConfigDict()
    similarity.layers = (10,)  # Sec. 4.1, counted from 1; () takes all (Table a1)
    similarity.sinkhorn_rounds = 10  # ours; the paper gives no number
    similarity.select = False  # ours: choose layers and hops by the held-out check
    similarity.select_hops = (1, 2, 3)  # candidates of that choice
    similarity.max_empty = 0.07  # crops it may leave without points (Supp. B: 7 %)

    config.points = points = mlc.ConfigDict()
    points.inward_margin_px = 24.0  # delta, Supp. B
    points.walk = "hops"  # or "converged", Eq. (a2)
    points.num_hops = 3  # alpha, Sec. 4.1
    points.blend = 0.25  # beta, Supp. C
    points.fg_threshold = 1e-3  # tau_FG, Sec. 4.1, for 1024 points
    points.bg_threshold = -1e-4  # tau_BG, Sec. 4.1, for 1024 points
    points.dropout_rate = 0.9  # Sec. 4.1
    points.background = "outside"  # ours: cells wholly outside; or "centre"
    points.use_padding = False  # ours: wrapped-around pixels are not background
    points.use_pseudo = True  # False: Table 5, row 2

    config.loss = loss = mlc.ConfigDict()
    loss.method = "exits"  # or "mil_crf", the baseline's MIL and CRF losses alone
    loss.mil = 10.0  # lambda_mil, Supp. B
    loss.point = 0.5  # lambda_point, Supp. B
    loss.crf = 0.5  # lambda_crf, Supp. B
    loss.crf_ramp_steps = 4000  # baseline
    loss.baseline_mil = 4.0  # baseline: its MIL weight, used by "mil_crf"
    loss.baseline_mil_ramp_steps = 1000  # baseline
    loss.pooling = "bilinear"  # M -> M~; or "area"
    loss.crf_rounds = 100  # baseline
    loss.crf_colour_scale = 0.1  # baseline: zeta
    loss.crf_image = "student"  # baseline: the jittered view; or "clean"

    config.optimizer = optimizer = mlc.ConfigDict()
    optimizer.lr_per_sample = 1.5e-6  # Sec. 4.1, times the batch size (baseline)
    optimizer.betas = (0.9, 0.9)  # baseline
    optimizer.weight_decay = 5e-4  # baseline, on every parameter
    optimizer.floor = 0.2  # baseline: the schedule ends at this share of its peak

    config.pretrain = pretrain = mlc.ConfigDict()  # ours: masked autoencoder
    pretrain.enabled = False
    pretrain.epochs = 100.0
    pretrain.steps = placeholder(int)  # given: overrides the epochs
    pretrain.lr = 1.5e-3
    pretrain.ramp_up = 0.1  # share of the steps in which the learning rate rises
    pretrain.mask_ratio = 0.75
    pretrain.decoder_dim = 512
    pretrain.decoder_depth = 1
    pretrain.decoder_heads = 16
    pretrain.normalise_targets = False

    config.warmup = warmup = mlc.ConfigDict()  # similarity extractor
    warmup.enabled = True  # False: Table a3, without warm-up
    warmup.epochs = 1.0  # Sec. 4.1
    warmup.steps = placeholder(int)
    warmup.lr = placeholder(float)  # given: overrides lr_per_sample x batch
    warmup.ramp_up = 0.1  # ours

    config.train = train = mlc.ConfigDict()  # pseudo label generator
    train.epochs = 10.0  # baseline
    train.steps = placeholder(int)
    train.lr = placeholder(float)
    train.ramp_up = 0.1  # baseline: one epoch of ten
    train.teacher_decay = 0.996  # baseline
    train.start_steps = 0  # ours: steps of MIL alone before, from random weights
    train.start_lr = placeholder(float)
    train.checkpoint_every = 500
    train.log_every = 20
    train.keep_checkpoints = 2
    train.best_metric = ""  # such as "loss/total": the lowest is kept besides
    train.keep_best = 1
    train.max_bad_steps = 10  # steps skipped for a loss that is not finite
    train.strict_resume = False  # True: a broken newest checkpoint is an error

    config.generate = generate = mlc.ConfigDict()
    generate.splits = ("train", "val")
    generate.batch_size = 32  # of each process
    generate.part_size = 512  # objects of a file that a restart need not make again
    generate.checkpoint = "latest"  # or "best", by train.best_metric
    generate.threshold = 0.1  # baseline
    generate.weights = "student"  # baseline; or "teacher", "both" (mean of logits)
    generate.flip = False  # average with the mirror image
    generate.empty = "skip"  # an empty mask: "skip" it, or fill the "box" at score 0

    # `--phase=stage2`: a detector trained on the masks, in an environment of its own
    config.stage2 = stage2 = mlc.ConfigDict()
    stage2.config = ""  # such as "configs/mmdet/solov2_r50_fpn_3x.py"
    stage2.python = ".venv-stage2/bin/python"  # of `make stage2-env`
    stage2.supervision = "pseudo"  # or "masks", the true ones, or "boxes", each filled
    stage2.dataset = ""  # its name in tables of results; empty: `data.name`
    stage2.init = ""  # local weights of the backbone, or "random"; empty: the config's
    stage2.epochs = placeholder(int)  # given: another length, the schedule is scaled
    stage2.iterations = placeholder(int)  # likewise
    stage2.single_class = False  # all classes as one, "object"
    stage2.options = ()  # KEY=VALUE, over the fields of the mmdet config
    stage2.seed = 0

    config.evaluate = evaluate = mlc.ConfigDict()
    evaluate.size_by = "box"  # baseline: area of the box; "mask": COCO's convention
    evaluate.separated_ids = ""  # list of ids; empty: two parts of 5 % or more
    evaluate.occluded_ids = ""  # likewise; empty: not reported
    evaluate.grabcut = True
    evaluate.num_pictures = 24
    evaluate.num_points = 256  # crops on which the pseudo points are checked

    # `--phase=export`: the masks in the format of another tool
    config.export = export = mlc.ConfigDict()
    export.kind = "coco"  # such as "voc"; docs/exporting.md lists them
    export.source = ""  # empty: WORKDIR/pseudo_masks.json
    export.out = ""  # empty: WORKDIR/export/KIND
    export.void_border_px = 0  # VOC: width of the border that belongs to no object
    export.min_score = 0.0  # masks below are left out and reported
    export.image_prefix = ""  # Label Studio: what its image paths start with
    return config

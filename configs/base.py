"""Every field, with the value shared by the data sets and where it comes from.

"Paper": Lee, Hwang, Kwak, Extreme Point Supervised Instance Segmentation, CVPR 2024;
sections, tables and equations are the paper's.
"Baseline": Mask Auto-Labeler, which the paper follows where it is silent.
"Ours": a choice that neither makes; docs/reproduction.md gives the reason.

`exits-jax COMMAND --help` prints the comments of this file: the one behind a field, or
the lines above it.
"""

import ml_collections as mlc
from ml_collections.config_dict import placeholder


def get_config() -> mlc.ConfigDict:
    config = mlc.ConfigDict()
    config.workdir = "runs/base"  # Folder of everything a run writes.
    config.seed = 0  # Seed of all random numbers of stage 1 (baseline).
    config.batch_size = 32  # Objects of a step over all devices (baseline: 8 x 4).
    config.grad_accum = 1  # Parts of a batch that are computed one after the other.
    # Folder of compiled programs, which JAX runs; empty: the user's cache folder, and
    # with --distributed WORKDIR/compilation_cache.
    config.compilation_cache = ""

    # Devices.
    config.mesh = mesh = mlc.ConfigDict()
    # Devices over which only the batch is split; -1: as many as are left.
    mesh.data = -1
    # Devices over which batch, parameters, optimizer and teacher are split.
    mesh.fsdp = 1

    # Annotations and images.
    config.data = data = mlc.ConfigDict()
    # COCO instances JSON with extreme points, or with masks to take them from.
    data.train = ""
    data.images = ""  # Folder that the file names of `data.train` are relative to.
    # COCO instances JSON for evaluation; empty: the training split is evaluated.
    data.val = ""
    data.val_images = ""  # Image folder of `data.val`; empty: as `data.images`.
    # VOC's own files, instead of `data.train` and `data.val`.
    data.voc = mlc.ConfigDict()
    data.voc.devkit = ""  # Folder .../VOCdevkit/VOC2012.
    # Folder .../benchmark_RELEASE/dataset of SBD; empty: VOC's 1,464 images alone.
    data.voc.sbd = ""
    # Folder or bucket of packed data sets; empty: images are read from their files.
    data.shards = ""
    data.shard_mb = 256  # Size of a shard that `pack` writes, MiB.
    data.shard_cache = ""  # Local folder that shards are copied to first.
    # Name of the packed data set: "custom", "voc", "coco" or "lvis".
    data.name = "custom"
    # Extreme points of a mask: "extremenet", ExtremeNet's rule (Sec. 4.1), or "clean",
    # always on the object.
    data.points = "extremenet"
    # Changes the points that are made from masks, to study click noise.
    data.noise = mlc.ConfigDict()
    # "none", "px", "share" of the box, or "run", along the extreme.
    data.noise.kind = "none"
    # Standard deviation in px or shares; of "run", the share of the points moved.
    data.noise.amount = 0.0
    data.on_bad = "skip"  # A bad record or image: "skip", which lists it, or "error".
    # A larger share of bad records or images than this is an error.
    data.max_skip_fraction = 0.5
    data.verify_images = True  # Decode every image once before training starts.
    data.follow_links = False  # Follow links that lead out of the image folder.
    # Objects are trained on if the area of their box exceeds this, px (baseline).
    data.min_area_px = 2048.0
    # Objects with a box side of at most this are left out, px (baseline).
    data.min_side_px = 2.0
    data.cache_mb = 256  # Decoded images kept in memory by each process, MiB.
    # Processes that make batches; 0: threads of the training process.
    data.num_workers = 0
    # Threads of each process that makes batches, and as many that paste and encode
    # masks.
    data.num_threads = 4
    # Further attempts to read a file, where the reason of a failure may pass.
    data.read_retries = 3
    # A step that waits longer than this for its input is warned about in the log, s.
    data.stall_s = 120.0
    # Scenes drawn by code instead of files.
    data.scenes = mlc.ConfigDict()
    data.scenes.num_train = 0  # Training scenes to draw; 0: the data are files.
    data.scenes.num_val = 0  # Validation scenes to draw.

    # Annotations of another tool to a COCO JSON.
    config.imports = imports = mlc.ConfigDict()
    imports.kind = ""  # Format, such as "cvat"; docs/importing.md lists them.
    imports.source = ""  # File or folder to read.
    imports.out = ""  # COCO JSON to write; empty: WORKDIR/imported.json.
    # Text file of class names, one per line; empty: in the order of their appearance.
    imports.categories = ""
    imports.class_names = ""  # Open Images: CSV file of display names.
    imports.keep_group_of = False  # Open Images: keep boxes around groups.
    imports.keep_depictions = True  # Open Images: keep drawings, toys and the like.

    # Square crops around the objects.
    config.crop = crop = mlc.ConfigDict()
    crop.size = 512  # Side of a crop, px (Sec. 4.1).
    # Largest random margin in training, in half extents of the box (baseline).
    crop.train_margin = 1.2
    # Margin at inference, both sides together, in half extents (baseline: 2 x 0.3).
    crop.test_margin = 0.6
    # Decode the images of a training at 1/2, 1/4 or 1/8 of their sides where the crop
    # still has no fewer pixels to show.
    crop.reduced_decoding = False
    crop.flip_rate = 0.5  # Share of training crops that are mirrored (baseline).
    # Colour jitter, grey and blur of the student's view (baseline).
    crop.photometric = True

    # Where augmentation runs.
    config.augment = mlc.ConfigDict()
    config.augment.on_device = False  # Photometric changes by the accelerator.

    # The vision transformer.
    config.model = model = mlc.ConfigDict()
    # "tiny", "small", "base", "large" or "huge" (Sec. 4.1: ViT-Base).
    model.size = "base"
    model.dim = placeholder(int)  # Width; given, it overrides the size's.
    model.depth = placeholder(int)  # Number of blocks; overrides the size's.
    model.heads = placeholder(int)  # Attention heads; overrides the size's.
    model.patch_size = 16  # Side of a patch, px (Sec. 3.2.1 with N = 32).
    # Side of the stored table of positions, in patches (MAE: 14, for 224 px); it is
    # interpolated to the grid of the crop.
    model.position_grid = 14
    # Shift of the positions when they are interpolated, in patches (baseline: 0.1).
    model.position_offset = 0.0
    # Keep the class token in the encoder; it is not passed on (baseline).
    model.class_token = True
    # The generator's stem: "patch", or "conv", the baseline's (93 M, Table a5).
    model.stem = "patch"
    model.extractor_stem = "patch"  # The extractor's stem (86 M, Table a5).
    # The extractor's random weights: "normal" (baseline), or "xavier" (MAE).
    model.extractor_init = "normal"
    # The extractor's key weights start as its query weights, if random (ours).
    model.extractor_query_is_key = False
    # Attention: "auto" by the device, or "together", "by_head" (CPU), "in_parts" (TPU
    # v5e, v6e), "splash" (TPU v5p), "cudnn" (NVIDIA, bfloat16).
    model.attention = "auto"
    model.scan = False  # Compile one block for all: shorter compilation.
    # Recomputed in the backward pass: "none", "dots" (all but products), "block".
    model.remat = "none"
    # Type of activations, "bfloat16" or "float32"; parameters and losses are float32.
    model.dtype = "bfloat16"

    # The mask decoder.
    config.decoder = decoder = mlc.ConfigDict()
    decoder.features = 256  # Width of the decoder (Supp. A: D/3).
    # Scale the prototypes by the size of the object (baseline).
    decoder.size_dependent = True
    decoder.fixed_scale = 1.0  # Scale used without `decoder.size_dependent`.
    # Convolution before which features are enlarged, 3 or 4, from 0 (Supp. A).
    decoder.upsample_before = 4

    # The clicks as input of the generator, beside the pixels (ours).
    config.prompt = prompt = mlc.ConfigDict()
    prompt.enabled = False  # Whether the generator sees the clicks and the box.
    prompt.walk = True  # Whether it sees what the walk from the clicks finds as well.
    # Standard deviation of a click's heat map, as a share of the crop's side.
    prompt.sigma = 0.03
    # Training moves each click by this, as a share of the box's side.
    prompt.jitter = 0.02
    # Share of training crops whose clicks are forgotten, so that boxes alone work.
    prompt.dropout = 0.1

    # Weights to start from.
    config.init = init = mlc.ConfigDict()
    # Encoder: .safetensors file written by `exits-jax convert`; empty: random.
    init.encoder = ""
    # The extractor's own encoder (Table a4); empty: as `init.encoder`.
    init.extractor = ""
    init.generator = placeholder(str)  # A whole generator: .safetensors file.
    init.image_mean = (0.485, 0.456, 0.406)  # Mean of the encoder's images (MAE).
    init.image_std = (0.229, 0.224, 0.225)  # Standard deviation, likewise.
    # The generator starts from the "encoder" as the extractor does (paper), or from
    # what "pretrain" or "warmup" made.
    init.generator_from = "encoder"

    # Similarity of patches.
    config.similarity = similarity = mlc.ConfigDict()
    # Attention layers, counted from 1 (Sec. 4.1); () takes all (Table a1).
    similarity.layers = (10,)
    # Sinkhorn rounds that make transitions of similarities, Eq. (2) (ours; the paper
    # gives no number).
    similarity.sinkhorn_rounds = 10
    # Choose layers and hops after the warm-up, by held-out clicks (ours).
    similarity.select = False
    similarity.select_hops = (1, 2, 3)  # Numbers of hops to choose from.
    # Share of crops that the choice may leave without points (Supp. B: 7 %).
    similarity.max_empty = 0.07

    # Pseudo points.
    config.points = points = mlc.ConfigDict()
    # delta: extreme points move inward by this, px of the crop (Supp. B).
    points.inward_margin_px = 24.0
    points.walk = "hops"  # Random walk: "hops", or "converged", Eq. (a2).
    # alpha: hops of the random walk (Sec. 4.1); with `labels.stored` section walk holds
    # instead.
    points.num_hops = 3
    # beta: weight of the converged walk against its start (Supp. C).
    points.blend = 0.25
    points.fg_threshold = 1e-3  # tau_FG, for 1024 points (Sec. 4.1).
    points.bg_threshold = -1e-4  # tau_BG, for 1024 points (Sec. 4.1).
    points.dropout_rate = 0.9  # Share of pseudo points dropped in a step (Sec. 4.1).
    # Background seeds: patches wholly "outside" the box (ours), or by "centre".
    points.background = "outside"
    points.use_padding = False  # Take padding beyond the image as background (ours).
    points.use_pseudo = True  # False: extreme points alone (Table 5, row 2).

    # Masks from clicks and attention alone, without training (ours).
    config.walk = walk = mlc.ConfigDict()
    # Whose attention: the encoder as it "came" (init.extractor, init.encoder or
    # pretrain), or after the "warmup".
    walk.encoder = "came"
    walk.layers = ()  # Attention layers that are averaged; () takes all.
    walk.num_hops = 4  # Hops of the walk.
    walk.neighbours = 0.08  # Share of the patches that each patch has transitions to.
    walk.inward_margin = 0.047  # Clicks move inward by this share of the crop's side.
    walk.disc_radius = 0.7  # Standard deviation of the discs around clicks, patches.
    walk.depth_weight = 1.0  # Weight of the depth in the quadrilateral of the clicks.
    walk.cut = 0.5  # Evidence at which object and background are alike.
    walk.slope = 1.5  # Steepness of the probability where the evidence is `walk.cut`.
    walk.ridge_block = 10  # Block whose features tell patches apart once more.
    # Fits of a linear classifier to the features of `walk.ridge_block`; 0: none.
    walk.ridge_rounds = 3
    # Weight of the squared coefficients of the classifier of `walk.ridge_rounds`.
    walk.ridge_shrinkage = 3.0
    walk.ridge_keep = 0.5  # Share of the walk's own probability that stays.
    # Probability after the classifier of `walk.ridge_rounds` at which object and
    # background are alike.
    walk.ridge_cut = 0.44

    # Fully connected CRF that refines masks as they are made (ours).
    config.dense_crf = dense_crf = mlc.ConfigDict()
    dense_crf.grid = 56  # Nodes along a side of the crop.
    dense_crf.rounds = 5  # Rounds of the mean field.
    dense_crf.colour_weight = 3.0  # Weight of nodes near in position and colour.
    # Scale of position where nodes are near in position and colour, share of the side
    # of the crop.
    dense_crf.position_scale = 0.1
    # Scale of colour where nodes are near in position and colour, Lab units.
    dense_crf.colour_scale = 5.0
    dense_crf.smooth_weight = 1.0  # Weight of nodes near in position alone.
    # Scale of position where nodes are near in position alone, share of the side of
    # the crop.
    dense_crf.smooth_scale = 0.03

    # Labels that are made once per object and kept on disk (ours).
    config.labels = labels = mlc.ConfigDict()
    # Labels come from the walk of section walk, made once on the crop with the test
    # margins; False: from the point retrieval, made in each step (paper).
    labels.stored = False
    labels.fg_probability = 0.7  # From here on a patch is a point of the object.
    labels.bg_probability = 0.2  # Up to here a patch is a point of the background.

    # Losses of the generator.
    config.loss = loss = mlc.ConfigDict()
    loss.method = "exits"  # "exits", or "mil_crf", the baseline's losses alone.
    loss.mil = 10.0  # lambda_mil (Supp. B).
    loss.point = 0.5  # lambda_point (Supp. B).
    loss.crf = 0.5  # lambda_crf (Supp. B).
    # Weight of the robust loss against the masks of stored labels (ours).
    loss.mask = 0.0
    # Exponent of the robust loss: 1 is absolute error, near 0 is cross entropy.
    loss.mask_exponent = 0.5
    loss.crf_ramp_steps = 4000  # Steps in which the CRF loss rises (baseline).
    loss.baseline_mil = 4.0  # MIL weight of "mil_crf" (baseline).
    # Steps in which the MIL loss of "mil_crf" rises (baseline).
    loss.baseline_mil_ramp_steps = 1000
    loss.pooling = "bilinear"  # From mask to points: "bilinear" or "area".
    loss.crf_rounds = 100  # Mean-field iterations (baseline).
    loss.crf_colour_scale = 0.1  # zeta: scale of colour differences (baseline).
    # Colours of the CRF: the jittered view of the "student" (baseline), or "clean".
    loss.crf_image = "student"

    # AdamW and its schedule.
    config.optimizer = optimizer = mlc.ConfigDict()
    # Peak learning rate per object of a batch (Sec. 4.1), scaled as the baseline does.
    optimizer.lr_per_sample = 1.5e-6
    optimizer.betas = (0.9, 0.9)  # Decay of the two moments (baseline).
    optimizer.weight_decay = 5e-4  # On every parameter (baseline).
    # Share of the peak learning rate at which the schedule ends (baseline).
    optimizer.floor = 0.2

    # Masked autoencoder on the crops, where no encoder is at hand (ours).
    config.pretrain = pretrain = mlc.ConfigDict()
    pretrain.enabled = False  # Whether the phase runs.
    pretrain.epochs = 100.0  # Length in passes over the objects.
    pretrain.steps = placeholder(int)  # Length in steps; overrides the epochs.
    pretrain.lr = 1.5e-3  # Peak learning rate.
    pretrain.ramp_up = 0.1  # Share of the steps in which the learning rate rises.
    pretrain.mask_ratio = 0.75  # Share of the patches that are hidden.
    pretrain.decoder_dim = 512  # Width of the decoder.
    pretrain.decoder_depth = 1  # Blocks of the decoder.
    pretrain.decoder_heads = 16  # Attention heads of the decoder.
    pretrain.normalise_targets = False  # Normalise the pixels of each hidden patch.

    # Warm-up of the similarity extractor.
    config.warmup = warmup = mlc.ConfigDict()
    warmup.enabled = True  # False: the extractor is not trained (Table a3).
    warmup.epochs = 1.0  # Length in passes over the objects (Sec. 4.1).
    warmup.steps = placeholder(int)  # Length in steps; overrides the epochs.
    # Peak learning rate; overrides optimizer.lr_per_sample times the batch size.
    warmup.lr = placeholder(float)
    # Share of the steps in which the learning rate rises (ours).
    warmup.ramp_up = 0.1

    # Training of the pseudo label generator.
    config.train = train = mlc.ConfigDict()
    train.epochs = 10.0  # Length in passes over the objects (baseline).
    train.steps = placeholder(int)  # Length in steps; overrides the epochs.
    # Peak learning rate; overrides optimizer.lr_per_sample times the batch size.
    train.lr = placeholder(float)
    # Share of the steps in which the learning rate rises (baseline: one epoch of ten).
    train.ramp_up = 0.1
    # Decay of the teacher, a moving average of the parameters (baseline).
    train.teacher_decay = 0.996
    # Steps with the MIL loss alone before the training, for random weights (ours).
    train.start_steps = 0
    # Peak learning rate of the steps of `train.start_steps`.
    train.start_lr = placeholder(float)
    train.checkpoint_every = 500  # Steps between two checkpoints.
    train.log_every = 20  # Steps between two entries of the metrics.
    train.keep_checkpoints = 2  # Number of newest checkpoints kept.
    # Metric, such as "loss/total", whose lowest checkpoint is kept as well.
    train.best_metric = ""
    train.keep_best = 1  # Number of checkpoints kept by `train.best_metric`.
    # Steps that may be skipped as their loss or gradient is not finite.
    train.max_bad_steps = 10
    # A broken newest checkpoint is an error; otherwise the one before it is used.
    train.strict_resume = False

    # Masks of all annotated objects.
    config.generate = generate = mlc.ConfigDict()
    generate.splits = ("train", "val")  # Splits that get masks.
    # A finished run or a generator's file that makes the masks, instead of one trained
    # here: all fields that decide masks are then its own, but those given as flags.
    generate.model = ""
    # Where masks come from: the trained "generator" (paper), the "walk", for which
    # nothing is trained, or "both", the sum of their logits, the walk's refined.
    generate.source = "generator"
    generate.walk_weight = 1.0  # Weight of the walk's logits in "both".
    # Refine the masks of the generator, or those of the walk before they are added to
    # it, by the CRF of section dense_crf.
    generate.crf = False
    # Clicks are in the mask, and what lies right behind them: depth of these wedges as
    # a share of the box; 0: none.
    generate.click_depth = 0.0
    # Pixels that several objects of one class claim go to the best claim, to which the
    # clicks add; another class takes nothing away.
    generate.layers = False
    generate.batch_size = 32  # Crops labelled at once by each process.
    # Objects per temporary file, of masks and of stored labels; a restart keeps the
    # files that are complete.
    generate.part_size = 512
    # Checkpoint to use: "latest", or "best", by `train.best_metric`.
    generate.checkpoint = "latest"
    generate.threshold = 0.1  # Probability above which a pixel is mask (baseline).
    # Parameters: "student" (baseline), "teacher", or "both" (mean of logits).
    generate.weights = "student"
    generate.flip = False  # Average with the prediction on the mirror image.
    # An empty mask: "skip" the object, or fill its "box" with score 0.
    generate.empty = "skip"

    # A detector trained on the masks, in an environment of its own.
    config.stage2 = stage2 = mlc.ConfigDict()
    # mmdet config: a shipped one by its name, such as "solov2_r50_fpn_3x", or a file.
    stage2.config = ""
    # Python of the environment that `make stage2-env` makes.
    stage2.python = ".venv-stage2/bin/python"
    # Train on "pseudo" masks, on the true "masks", or on filled "boxes".
    stage2.supervision = "pseudo"
    stage2.dataset = ""  # Name in tables of results; empty: as `data.name`.
    # Local weights of the backbone, or "random"; empty: those of the mmdet config.
    stage2.init = ""
    stage2.epochs = placeholder(int)  # Another length; the schedule is scaled.
    stage2.iterations = placeholder(int)  # Another length, in iterations.
    stage2.single_class = False  # Train all classes as one, "object".
    stage2.options = ()  # KEY=VALUE, set over fields of the mmdet config.
    stage2.seed = 0  # Of the detector's random numbers.

    # Pseudo masks against true ones.
    config.evaluate = evaluate = mlc.ConfigDict()
    # Size classes by the area of the "box" (baseline), or of the "mask" (COCO).
    evaluate.size_by = "box"
    # File of ids of separated objects; empty: masks with two parts of 5 % or more.
    evaluate.separated_ids = ""
    evaluate.occluded_ids = ""  # File of ids of occluded objects; empty: no figure.
    evaluate.grabcut = True  # Compare with GrabCut started from the box.
    evaluate.num_pictures = 24  # Objects of the contact sheet.
    evaluate.num_points = 256  # Crops whose pseudo points are compared with masks.

    # The masks in the format of another tool.
    config.export = export = mlc.ConfigDict()
    export.kind = "coco"  # Format, such as "voc"; docs/exporting.md lists them.
    export.source = ""  # COCO JSON to read; empty: WORKDIR/pseudo_masks.json.
    export.out = ""  # Folder to make; empty: WORKDIR/export/KIND.
    export.void_border_px = 0  # VOC: width of the border that belongs to no object.
    export.min_score = 0.0  # Masks with a lower score are left out and counted.
    # Polygons for people to edit: how far an outline may move to have fewer vertices,
    # px; 0: exact.
    export.tolerance_px = 0.0
    export.image_prefix = ""  # Label Studio: what its image paths start with.
    return config

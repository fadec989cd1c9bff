"""How to train your model: a training loop that can be changed at every step, and what is known of each change.

    from minitrain.all import *         what a notebook wants

    data         the lesson's digits                          get_data
    minibatch    data sets, loaders                           Dataset, DataLoader, get_dls
    callbacks    the loop                                     DataBunch, Learner, Callback, Runner, AvgStatsCallback
    learner      what the trained net says                    predict, get_preds, evaluate, Pairs, Both
    progress     what an epoch gave, while it trains          EpochTable, ProgressBar, LivePlot
    loggers      what is left of it                           JSONLogger, CSVLogger, TensorBoardLogger, TrackerLogger
    averages     metrics of an epoch                          EpochMetric, AvgStats
    sgd, anneal  the optimiser and its schedules              SGD, one_cycle, ParamScheduler, Recorder
    lr_find      which rate?                                  lr_find
    groups       what learns, at which rate                   layer_groups, freeze_, KeepNorms
    hooks        a look inside                                summary, ActivationStats, NanGuard
    init, scaling  where weights begin                        lsuv_, kaiming2
    depth        what an init does to a deep net              init_report, fixup_
    convnet      images, devices, transforms                  ToDevice, BatchTransformXCallback
    control      when to stop, and how far a step goes        EarlyStopping, GradientClipping, GradientAccumulation
    regularize   what keeps a net from learning by heart      EMA, SWA, Mixup, WeightDecay
    optimizers   those of others                              ScheduleFree
    precision    sixteen bits                                 MixedPrecision
    checkpoint   a run that goes on where it was cut off      Checkpoint, load_weights, save_weights, export_model
    files        tables, images and texts on the disk         Table, image_folder, Words, Sequences
    gan, graphs  two nets against each other; a step as one CUDA graph
    distributed  more than one process                        DistributedCallback
    doctor       what keeps a net from learning               doctor
    compare      two ways to train, on the same seeds
    search       a setting that survives a search, and what it is worth on new seeds
    lab          what measures all this: claims, the ledger, the benchmark

The numbered notebooks hold the source, the questions and the tests.
"""
__version__ = "0.1.0"

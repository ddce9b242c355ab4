r"""The tested companion package of the course: one concept a module, imported where it is used.

Optimization:

- ``optim``: SGD, Adagrad, RMSprop, Adam, AdamW, formula by formula, as fast as torch's.
- ``optimizer``: their common form, for a rule of one's own; ``update``: all of them as one equation.
- ``kernels``: the same updates in one pass over memory.
- ``schedules``: learning rates over time: warm-up, steps, cosine, one cycle.
- ``landscape``: curvature of a loss, its critical points, the way out of a saddle. ``surfaces``: its pictures.

Networks:

- ``norms``: batch, layer, instance, group and RMS norm. ``moments``: the one formula that they share.
- ``attention``: the formula, masks, grouped heads; ``multihead``: several heads, as torch's module of the name.
- ``transformer``: encoder, decoder and both, as torch's; ``cache``: what decoding remembers.
- ``seq2seq``: a Transformer from tokens to tokens. ``counting``: what one costs, by formula.
- ``positions``: where a word stands, sinusoidal, learned, rotary.

Translation:

- ``text``: tokens and vocabularies. ``buckets``: batches of sentences of like length.
- ``pairs``: sentence pairs from files. ``corpus``: a grammar and the course's terms, in English and Chinese.
- ``teacher``: training a model of tokens. ``decoding``: greedy and beam search. ``scores``: BLEU and chrF.
- ``translator``: all of it as one object; ``translate``: as a command.

Losses and detection:

- ``losses``: cross-entropies. ``focal``: focal losses. ``regression``: losses of residuals. ``bags``: of bags of boxes.
- ``boxes``: their forms and overlaps. ``box_losses``: the IoU family. ``suppression``: NMS. ``anchors``: their codes.
- ``scenes``: images that the package draws. ``detection``: a detector for them. ``average_precision``: its score.

Training:

- ``step``: one update of supervised training; ``protocol``: what a Runner needs of any update.
- ``precision``: mixed precision and loss scaling.
- ``runner``: epochs, iterations, the order of events, exact resumption.
- ``hooks``: the points of a run, early stopping. ``saving``: the hook that writes checkpoints.
- ``averaging``: a moving average of the weights. ``logs``: lines, bars, CSV, TensorBoard.
- ``evaluation``: accuracy, metrics and predictions over a data set. ``modes``: freezing parts of a model.
- ``finder``: a range test for the learning rate.
- ``checkpoint``: files written whole or not at all. ``pretrained``: weights from elsewhere.
- ``data``: small data sets that need no download. ``device``: where to compute.

Exercises:

- ``check``: judges an optimizer, a norm or attention that a reader wrote, in words.

Figures:

- ``plot``: curves, contours, explorers and live figures, both languages; ``figures`` is the workshop behind it.

Behind them: ``batches``, ``buffers``, ``gradients``, ``parts`` (the step's); ``comparing``, ``interrupts``, ``memory``,
``randomness``, ``resuming``, ``settings``, ``validation`` (the Runner's); ``archive``, ``files`` (the checkpoint's);
``normalizing`` (the norms'); ``transforming`` (the Transformer's); ``catalogue`` (the pairs'); ``objective`` (the
landscape's); ``reduction`` (the losses'); ``judging``, ``diagnosis``, ``trials``, ``attempts``, ``rules``,
``mistakes``, ``averaged_mistakes``, ``layer_judging``, ``norm_rules``, ``norm_trials``, ``norm_mistakes``,
``attention_trials``, ``attention_mistakes`` (the check's); ``arguments`` (everyone's).
"""

__version__ = "0.1.0"

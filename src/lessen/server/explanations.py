"""Metrics and terms in words: what they are, how they come about, their range, and what they say."""

from __future__ import annotations

from collections.abc import Mapping

SHARE = "0 to 1 (higher is better)"
_WORDS: Mapping[str, tuple[str, str, str, str]] = {  # description, formula, range, interpretation
    "accuracy": (
        "Share of test samples that are decided rightly.",
        "correct decisions / samples",
        SHARE,
        "Easy to read, and misleading where one class is frequent: compare it with always naming that class.",
    ),
    "precision": (
        "Of the samples that were given a class, the share that belongs to it; the mean over classes.",
        "mean over classes of TP / (TP + FP)",
        SHARE,
        "Low: the model names a class too readily.",
    ),
    "recall": (
        "Of the samples of a class, the share that was found; the mean over classes.",
        "mean over classes of TP / (TP + FN)",
        SHARE,
        "Low: the model misses samples of a class.",
    ),
    "f1_score": (
        "Harmonic mean of precision and recall of each class, then the mean over classes (macro-F1).",
        "mean over classes of 2 * precision * recall / (precision + recall)",
        SHARE,
        "Every class counts the same, however rare it is. The score that heads the reports of classifiers.",
    ),
    "inference_latency": (
        "Time of one answer at batch 1, of the saved model opened anew, without tokenizing.",
        "median of timed calls after a warm-up, in rounds that alternate between the models",
        "above 0 ms (lower is better)",
        "Comparable only on the same device, with the same number of threads and the same length of input.",
    ),
    "throughput": (
        "Samples answered in a second, in batches.",
        "samples / seconds of the timed calls",
        "above 0 per second (higher is better)",
        "What counts where much is answered at once; latency is what counts where somebody waits.",
    ),
    "speedup": (
        "How many times faster than the teacher a model answers.",
        "latency of the teacher / latency of the model, median over rounds",
        "above 0 (higher is better; below 1 the model is slower)",
        "Part of it may be the runtime's merit: the attribution in the report says how much.",
    ),
    "ram_usage": (
        "Most memory that a process of its own needs to open the model and answer.",
        "largest resident set of that process",
        "above 0 bytes (lower is better)",
        "The runtime itself takes a share that no compression removes; it is measured beside.",
    ),
    "model_complexity": (
        "What one answer costs in arithmetic (time) and the weights in bytes (space).",
        "FLOPs counted while the model runs; bytes of the files; the report gives both with their formulas",
        "counts (lower is better)",
        "How the cost grows with the input follows from the architecture, and compression seldom changes that.",
    ),
    "time_complexity": (
        "Floating-point operations of one answer, counted while the model runs.",
        "sum over operations; a multiply-add is two",
        "count of FLOPs (lower is better)",
        "Fewer FLOPs need not mean less time: memory and the runtime have a say.",
    ),
    "space_complexity": (
        "Bytes of the files that are needed to run the model.",
        "sum over files",
        "bytes (lower is better)",
        "What has to be shipped and loaded.",
    ),
    "parameter_count": (
        "Number of weights of the model.",
        "sum over tensors of the product of their shape",
        "count (lower is better)",
        "Cut units lower it. Quantization does not: the same weights take fewer bits.",
    ),
    "nonzero_parameters": (
        "Number of weights that are not zero.",
        "count of weights != 0",
        "count",
        "Zeros make files compress better; they make a model faster only where the runtime skips them.",
    ),
    "layers_count": (
        "Layers with weights that an answer passes through.",
        "count over modules",
        "count",
        "Fewer layers is what makes a student fast; narrower layers save less time than they save weights.",
    ),
    "model_size": (
        "Bytes of the files that are needed to run the model.",
        "sum over files; 1 MB is 1,000,000 bytes",
        "above 0 MB (lower is better)",
        "Measured on the disk, also for quantized models.",
    ),
    "flops": (
        "Floating-point operations of one answer.",
        "sum over operations; a multiply-add is two",
        "count (lower is better)",
        "The cost of an answer without the machine.",
    ),
    "size_reduction": (
        "How much smaller the files became.",
        "(bytes of the teacher - bytes of the final model) / bytes of the teacher * 100",
        "below 100 % (higher is better; negative: larger)",
        "90 % is ten times smaller.",
    ),
    "compression_ratio": (
        "How many times smaller the files are than the teacher's.",
        "bytes of the teacher / bytes of the final model",
        "above 0 (higher is better; below 1: larger)",
        "The same as the size reduction, easier to read where much was saved.",
    ),
    "accuracy_drop": (
        "Accuracy that compression cost.",
        "(accuracy of the teacher - accuracy of the final model) * 100",
        "percentage points (lower is better; negative: the final model is better)",
        "Look at the interval: with few test samples a point or two is chance.",
    ),
    "agreement_with_teacher": (
        "Share of test samples on which a model decides as the teacher does, right or wrong.",
        "equal decisions / samples",
        SHARE,
        "How faithful the student is. It is no accuracy: a student may agree with mistakes.",
    ),
    "knowledge_transfer": (
        "How much of what the teacher says the student took over.",
        "agreement with the teacher on the test split",
        SHARE,
        "Compare with a student trained on the labels alone (distill.control) to see whether distilling helped.",
    ),
    "perplexity": (
        "How surprised a language model is by the test text.",
        "exp(negative log-likelihood / tokens)",
        "1 and above (lower is better)",
        "Comparable only with the same tokenizer; bits per byte are comparable between tokenizers.",
    ),
    "bleu": (
        "Overlap of generated words with the reference.",
        "geometric mean of n-gram precisions, times a penalty for short texts",
        "0 to 100 (higher is better)",
        "For translations; differences below a point are rarely seen by readers.",
    ),
    "expected_calibration_error": (
        "How far the model's confidence is from how often it is right.",
        "mean over bins of |confidence - accuracy|, weighted by samples",
        "0 to 1 (lower is better)",
        "High: its probabilities should not be taken at their word.",
    ),
    "confidence_interval": (
        "Where a number may lie if other test samples had been drawn.",
        "2.5 % and 97.5 % quantile over resamples of the test split",
        "two values around the number",
        "Where the intervals of two models overlap widely, the difference may be chance.",
    ),
    "distillation_loss": (
        "What the student is trained on: the teacher's probabilities and the labels together.",
        "alpha * T^2 * KL(teacher || student at temperature T) + (1 - alpha) * cross-entropy",
        "0 and above, in nats (lower is better)",
        "Compare it within one training only: another alpha or temperature is another scale.",
    ),
    "kl_divergence": (
        "How far the student's probabilities are from the teacher's.",
        "sum over classes of p * (log p - log q), with p the teacher's and q the student's",
        "0 and above, in nats (lower is better)",
        "0: the student says exactly what the teacher says.",
    ),
    "temperature": (
        "Softens both distributions before they are compared.",
        "softmax(logits / T)",
        "above 0; usual are 1 to 5",
        "Above 1, the small probabilities count too: what a class resembles is part of the lesson.",
    ),
    "alpha": (
        "Weight of the teacher against the labels.",
        "loss = alpha * teacher + (1 - alpha) * labels",
        "0 (labels only) to 1 (teacher only)",
        "High where the teacher is good and labels are few or noisy.",
    ),
    "soft_targets": (
        "The teacher's probabilities at temperature T, which the student learns from.",
        "softmax(teacher's logits / T)",
        "a probability a class, 1 in all",
        "They hold more than a label: also how close the other classes are.",
    ),
    "hard_loss": (
        "Cross-entropy with the true labels.",
        "-log(probability of the true class)",
        "0 and above, in nats (lower is better)",
        "The part of the loss that needs no teacher.",
    ),
    "sparsity": (
        "Share of weights that are zero.",
        "zeros / weights; the report names what was counted",
        "0 to 1",
        "Structured pruning leaves none: it cuts units out instead of setting weights to zero.",
    ),
    "pruning_ratio": (
        "Share of parameters that pruning removed.",
        "(parameters before - parameters after) / parameters before * 100",
        "0 to 100 %",
        "Counted in the saved model; what was asked for may be a share of units, not of parameters.",
    ),
    "structured_pruning": (
        "Cuts whole heads, units or channels out, so that the matrices become smaller.",
        "keep the units that score highest, then refit the next layer and train on",
        "-",
        "Smaller files and faster answers everywhere; costs more quality than zeroing single weights.",
    ),
    "unstructured_pruning": (
        "Sets single weights to zero.",
        "mask * weight",
        "-",
        "Keeps more quality, but files and answers stay as they are unless a format or runtime uses the zeros.",
    ),
    "quantization": (
        "Stores, and where the runtime can, computes with fewer bits.",
        "value = scale * (integer - zero point)",
        "8 bits instead of 32: files about four times smaller",
        "Whether it is faster depends on the runtime and the processor; the report measures it.",
    ),
    "retention": (
        "How much of the teacher's quality above chance is left.",
        "(score - chance) / (teacher's score - chance)",
        "about 0 to 1; not defined where the teacher is no better than chance",
        "1: nothing was lost.",
    ),
}
EXPLANATIONS: Mapping[str, Mapping[str, str]] = {
    name: dict(zip(("description", "formula", "range", "interpretation"), words, strict=True))
    for name, words in _WORDS.items()
}

"""The names of the benchmarks; evals/benchmarks/registry.py has the benchmarks themselves, whose
packages take seconds to import."""

NAMES = (
    "humaneval", "mbpp", "apps", "codecontests", "gsm8k", "microcode", "arc-challenge",
    "arc-easy", "copa", "hellaswag", "mmlu", "piqa", "siqa", "nq-open", "triviaqa",
    "big-patent", "cnn-dailymail", "multi-news", "orangesum", "pn-summary", "samsum",
    "scitldr", "thaisum", "wiki-summary", "xsum",
)  # fmt: skip

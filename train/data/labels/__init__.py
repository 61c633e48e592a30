"""Labels: where those of images come from, what files call classes, and which of a model's labels they are.

``labelling`` chooses, by the files that there are, among ``sidecars`` (WebDataset), ``labels_csv``, tables (``rows`` and
``columns``) and ``by_folder``; ``matching`` is the one place where classes become a model's labels.
"""

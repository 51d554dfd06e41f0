"""The page a person reads: one family of figures a file, numbers first, drawing second.

words, canvas       how numbers are spelled; how figures look in the light and in the dark
labels              short labels beside points
verdict, promise    what came out, in one breath; what was promised, in plain words
risk, tradeoff      alpha against bad stops; tokens against accuracy, with the rows of `rows`
scores, reliability what the probe sees; how far its score is a probability
stops, profiles     where traces are stopped; whether the traffic is that of calibration
strata              the breakdown that a marginal promise needs
report              all of it on one page

Nothing is imported here; jinja2, matplotlib and scikit-learn come in only when a page is made.
"""

"""Many small SAEs at once: one batched product where a loop would train them one by one.

`trainer` trains a stack on the worlds of `data`, from the decoders and with the activations of
`stack` and `activation`; `measures` says what it found.
"""

"""What a worker process runs (torch lives here); started as a process and never imported by the page.

What belongs together, in the order to read it:

- a worker: __main__, attempt, rows, report, checkpoint, environment, failures, processes, children
- models: models, bases, fresh, adapters, templates
- tuning: tuning, sft, dpo, kto, orpo, reward, arguments, token_check, probe, fsdp1, head_tiles
- our own loop: loop, loop_arguments, loop_text, loop_state, loop_sft, optimizers
- pretraining: pretrain, tokenizer, vocabularies, shards, packing
- while it trains: benchmark, samples, track, speed, machine
- evaluation: evaluate, generate, answers, measure, served
- export: export, merge, convert, gguf, gguf_model, reference, corpus, importance, origin
- a recipe taken elsewhere: portable, portable_plan, portable_text
- warm workers of the page: chat, preview
"""

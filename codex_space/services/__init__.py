"""The verbs that page and command line share; above jobs, below ui and cli.

What belongs together; `context` is what all of them are given:

- a workspace: context, datasets, models, cached_models, cached_tokens, disk, clean, backup, copies, rebuild, audit
- before a run starts: checks, preflight, tokens, licences, estimate, probe, forecast, pretraining, first_model
- a run: runs, commands, live, summary, alerts, after, export_plan, autorun
- a run elsewhere: portable, cluster, jobs, job_entry
- a run that comes back: interrupted, from_hub, bring_back, brought
- what a model can do: chat, evaluations, endpoint, exports
- the Space: space, first_boot, updates, leaving, money, prices, gauges
- people and the Hub: account, roles, signed_out, answers
"""

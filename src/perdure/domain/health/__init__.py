"""Health: what can be told from a worker's signals, as rules and models on plain numpy arrays.

| module | what it does | needs numpy |
|---|---|---|
| `trend` | the straight-line baseline for a failure's probability and time | no |
| `deviation` | the advisory level: how many standard deviations the newest value lies off | no |
| `arrival` | liveness: phi-accrual and fixed limits over the times of heartbeats | no |
| `residual` | anomalies in many metrics: ridge vector-autoregression residuals, with contributions | yes |
| `conformal` | anomalies in one metric: distance to the nearest past windows, as a rank | yes |
| `alarm` | when a score becomes an alarm: adaptive level, repeats suppressed | yes |
| `histories` | features of a unit's past: levels, shift, slope, spread, age | yes |
| `hazard` | probability of failure by horizon and the time to failure, with censoring | yes |
| `lives` | what the lives of workers teach: failures, and where an observation ends | no |
| `features` | a worker's newest samples as one row of a model | yes |
| `challenge` | a split by time, a fit, and whether it is surely better than others | yes |
| `failure_model` | a trained model as bytes without pickles, refused when anything is off | yes |
| `trial`, `trained` | training and judging on past lives; the prediction for one worker | yes |
| `calibration` | whether probabilities can be believed, and mending them | yes |

Modules that need numpy raise `ExtraMissing` at their import when it is not there.
"""

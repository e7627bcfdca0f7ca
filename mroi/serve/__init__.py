"""Files of a folder over HTTP: slices, patches, time series, pictures, and their bytes.

low, without a framework
    `faults` (what an error is to a client), `http` (validators and ranges), `parameters` (of a
    query, checked), `folder` (which files there are; each open once)
middle
    `answers` (what can be asked of a file)
high
    `service` (from a request to a reply, whatever happens), `app` (the thin Starlette
    application), `server` (uvicorn at an address)
"""

"""Channels by which messages about alerts leave: webhook, Slack, mail, Alertmanager.

None of them uses the queue that is watched. What goes wrong is told without the address, which may be a secret.
"""

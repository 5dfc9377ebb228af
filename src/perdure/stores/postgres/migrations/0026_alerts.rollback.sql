DROP TABLE perdure.alert_messages;
DROP TABLE perdure.alert_silences;
DROP TABLE perdure.alerts;
DROP TABLE perdure.alert_counts;
DROP TABLE perdure.alert_watch;

"""The process that captions pictures: a captioning model, and the work of one job."""

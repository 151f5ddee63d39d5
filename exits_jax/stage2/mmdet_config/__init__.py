"""An mmdet configuration, completed: files, schedule, starting weights."""

"""Names of queues and tasks, and which queues a worker takes from. Only the standard library."""

from collections.abc import Mapping

QUEUES = (
    *("email", "user_init", "persistence", "app_ai", "app_web", "health_check", "usage", "app_images", "app_music"),
    *("app_videos", "app_code", "app_social_media", "server_stats", "leaderboard", "reminder", "app_pdf", "app_docs"),
    "push",
)
DEFAULT = "health_check"  # the sample's own tasks; there is no default queue, as in the real backend

EMAIL_CODE = "app.tasks.email_tasks.verification_email_task.generate_and_send_verification_email"
CHECK_APPS = "health_check.check_all_apps"
DUE_TASKS = "user_tasks.process_due_ai_tasks"
ROUND_TRIP = "sample.round_trip"
HEARTBEAT = "sample.heartbeat"
SLEEP = "sample.sleep"

SLEPT = "sample:slept:{}"  # how often a task with that id came to its end
HEARTBEAT_KEY = "sample:scheduler:heartbeat"


def consumed(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the queues of this process: those of CELERY_QUEUES that exist, or all of them."""
    wanted = environ.get("CELERY_QUEUES", "")
    if not wanted:
        return QUEUES
    names = {name.strip() for name in wanted.split(",")}
    return tuple(name for name in QUEUES if name in names)

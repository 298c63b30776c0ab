"""An HTTP front for the orders service.

    python -m examples.orders.service
    uvicorn examples.fastapi_app.app:app --timeout-graceful-shutdown 20

Both take the broker from AMQP_URL, by default amqp://guest:guest@localhost/. START_DEGRADED=1
lets the front start before the broker does.
"""

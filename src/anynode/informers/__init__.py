"""From watch events to reconcile(key): reflector, store, informer, workqueue, controller, recorder, election."""

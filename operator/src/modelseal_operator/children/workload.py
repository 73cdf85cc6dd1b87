"""The Deployment: one pod template, and how a new one replaces an old one."""

from modelseal.contract import (
    ANNOTATION_DEVICE,
    ANNOTATION_GENERATION,
    LABEL_TEMPLATE,
)
from modelseal_operator.children.common import (
    Context,
    Json,
    child,
    common_labels,
    digest_of,
    selector_labels,
    without_none,
)
from modelseal_operator.children.containers import agent_container, server_container
from modelseal_operator.children.volumes import pod_volumes
from modelseal_operator.resource import EncryptedModel, Spread, Toleration


def deployment(context: Context) -> Json:
    """Return the Deployment of a model."""
    model, template = context.model, pod_template(context)
    content = {
        "spec": {
            "replicas": model.pods,
            "revisionHistoryLimit": 2,
            "progressDeadlineSeconds": model.rollout.deadline,
            "selector": {"matchLabels": selector_labels(model.name)},
            "strategy": _strategy(context),
            "template": template,
        }
    }
    annotations = {
        ANNOTATION_GENERATION: str(model.generation),
        ANNOTATION_DEVICE: context.device.record,
    }
    return child(model, "Deployment", model.name, content, annotations)


def pod_template(context: Context) -> Json:
    """Return the pod template, labelled with its own hash."""
    model = context.model
    template: Json = {
        "metadata": without_none(
            {
                "labels": {**dict(model.template.labels), **common_labels(model.name)},
                "annotations": dict(model.template.annotations),
            }
        ),
        "spec": _pod_spec(context),
    }
    template["metadata"]["labels"][LABEL_TEMPLATE] = digest_of(template)
    return template


def _strategy(context: Context) -> Json:
    chosen = context.model.rollout.strategy
    if chosen == "Recreate" or (chosen is None and context.device.resource):
        return {"type": "Recreate"}
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}


def _pod_spec(context: Context) -> Json:
    model = context.model
    template = model.template
    secrets = dict.fromkeys((*context.settings.pull_secrets, *template.pull_secrets))
    return without_none(
        {
            "automountServiceAccountToken": False,
            "containers": [server_container(context)],
            "enableServiceLinks": False,
            "imagePullSecrets": [{"name": name} for name in secrets],
            "initContainers": [agent_container(context)],
            "nodeSelector": dict(template.node_selector),
            "priorityClassName": template.priority_class,
            "runtimeClassName": template.runtime_class,
            "securityContext": _pod_security(context),
            "serviceAccountName": model.service_account,
            "terminationGracePeriodSeconds": model.rollout.grace,
            "tolerations": [_toleration(toleration) for toleration in template.tolerations],
            "topologySpreadConstraints": [_spread(model, spread) for spread in template.spread],
            "volumes": [{"name": v.name, **v.content} for v in pod_volumes(context)],
        }
    )


def _pod_security(context: Context) -> Json:
    groups = (*context.settings.device_groups, *context.model.groups)
    return without_none(
        {
            "fsGroup": context.model.template.fs_group,
            "fsGroupChangePolicy": "OnRootMismatch" if context.model.template.fs_group else None,
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
            "supplementalGroups": sorted(set(groups)) if context.device.resource else None,
        }
    )


def _toleration(toleration: Toleration) -> Json:
    return without_none(
        {
            "key": toleration.key,
            "operator": toleration.operator,
            "value": toleration.value,
            "effect": toleration.effect,
            "tolerationSeconds": toleration.seconds,
        }
    )


def _spread(model: EncryptedModel, spread: Spread) -> Json:
    return {
        "topologyKey": spread.key,
        "maxSkew": spread.skew,
        "whenUnsatisfiable": spread.when,
        "labelSelector": {"matchLabels": selector_labels(model.name)},
    }

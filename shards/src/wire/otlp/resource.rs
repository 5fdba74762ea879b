//! What a resource adds to the labels of its points, and the series that tells the rest of it.

use std::borrow::Cow;

use super::Settings;
use super::fault::{Fault, POINT_BYTES_MAX, PointError, quoted};
use super::label_set::LabelSet;
use super::names::label_name;
use super::value::{Attribute, Message};
use crate::wire::labels::LABELS_MAX;

const SERVICE_NAME: &str = "service.name";
const SERVICE_NAMESPACE: &str = "service.namespace";
const SERVICE_INSTANCE: &str = "service.instance.id";

/// The attributes that become `job` and `instance`.
const IDENTIFYING: [&str; 3] = [SERVICE_NAMESPACE, SERVICE_NAME, SERVICE_INSTANCE];

/// A resource (opentelemetry.proto.resource.v1.Resource {1: repeated attributes}).
#[derive(Debug, Default)]
pub struct Resource<'a> {
    attributes: Vec<Attribute<'a>>,
    /// Empty if there is none.
    job: Cow<'a, str>,
    /// Empty if there is none.
    instance: Cow<'a, str>,
    promoted: LabelSet<'a>,
}

impl<'a> Resource<'a> {
    /// Reads one.
    pub fn read(message: Message<'a>, settings: &Settings) -> Result<Resource<'a>, Fault> {
        if message.bytes.len() > POINT_BYTES_MAX {
            return Err(PointError::TooLarge.into());
        }
        let mut attributes = Vec::new();
        let mut fields = message.fields();
        while let Some(field) = fields.field()? {
            if field.number == 1 {
                let attribute = Attribute::read(Message::of(&field)?)?;
                if attributes.len() == LABELS_MAX {
                    return Err(PointError::TooLarge.into());
                }
                attributes.push(attribute);
            }
        }
        let mut resource = Resource { attributes, ..Resource::default() };
        if let Some(name) = resource.text(SERVICE_NAME)? {
            resource.job = match resource.text(SERVICE_NAMESPACE)? {
                Some(namespace) => Cow::Owned(format!("{namespace}/{name}")),
                None => name,
            };
        }
        resource.instance = resource.text(SERVICE_INSTANCE)?.unwrap_or_default();
        for attribute in &resource.attributes {
            if settings.promoted.iter().any(|name| name == attribute.key) {
                let name = label_name(attribute.key)
                    .ok_or_else(|| PointError::LabelName { name: quoted(attribute.key) })?;
                resource.promoted.set(&name, attribute.text()?);
            }
        }
        Ok(resource)
    }

    fn text(&self, key: &str) -> Result<Option<Cow<'a, str>>, Fault> {
        self.attributes.iter().find(|attribute| attribute.key == key).map(Attribute::text).transpose()
    }

    /// The labels of one of its points.
    pub fn labels_of(&self, attributes: &[Attribute<'a>]) -> Result<LabelSet<'a>, Fault> {
        let mut labels = LabelSet::from_attributes(attributes, &[])?;
        labels.fill_in(&self.promoted);
        self.identify(&mut labels);
        Ok(labels)
    }

    /// The labels of its `target_info`; `None` if that would say no more than `job` and `instance` do, or nothing could be
    /// joined with it.
    pub fn target_info(&self) -> Option<LabelSet<'a>> {
        if self.attributes.iter().all(|attribute| IDENTIFYING.contains(&attribute.key)) {
            return None;
        }
        let mut labels = LabelSet::from_attributes(&self.attributes, &IDENTIFYING).ok()?;
        self.identify(&mut labels);
        (labels.contains("job") || labels.contains("instance")).then_some(labels)
    }

    fn identify(&self, labels: &mut LabelSet<'a>) {
        for (name, value) in [("job", &self.job), ("instance", &self.instance)] {
            if !value.is_empty() {
                labels.set(name, value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, any, attribute};
    use super::*;
    use prost::Message as _;

    fn resource(attributes: &[(&str, &str)]) -> Vec<u8> {
        let attributes = attributes.iter().map(|(key, value)| attribute(key, any::text(value))).collect();
        testing::Resource { attributes }.encode_to_vec()
    }

    fn with_resource(attributes: &[(&str, &str)], promoted: &[&str], check: impl Fn(&Resource<'_>)) {
        let bytes = resource(attributes);
        let promoted = promoted.iter().map(|name| (*name).to_owned()).collect();
        let settings = Settings { promoted, ..Settings::default() };
        check(&Resource::read(Message { bytes: &bytes, base: 0 }, &settings).unwrap());
    }

    #[test]
    fn job_and_instance_come_from_the_service() {
        for (attributes, expected) in [
            (&[][..], ""),
            (&[(SERVICE_NAME, "api")][..], "job=api "),
            (&[(SERVICE_NAMESPACE, "shop")], ""),
            (&[(SERVICE_NAMESPACE, "shop"), (SERVICE_NAME, "api")], "job=shop/api "),
            (&[(SERVICE_NAME, "api"), (SERVICE_INSTANCE, "i-1")], "instance=i-1 job=api "),
        ] {
            with_resource(attributes, &[], |resource| {
                assert_eq!(resource.labels_of(&[]).unwrap().to_string(), expected, "{attributes:?}");
                assert_eq!(resource.target_info(), None, "nothing else to say");
            });
        }
    }

    #[test]
    fn promoted_attributes_fill_in_what_points_do_not_say() {
        let attributes = [("k8s.pod.name", "p"), ("zone", "z"), ("other", "o"), (SERVICE_NAME, "api")];
        let bytes = testing::attribute_bytes("zone", any::text("own"));
        let own = Attribute::read(Message { bytes: &bytes, base: 0 }).unwrap();
        with_resource(&attributes, &["zone", "k8s.pod.name", "absent"], |resource| {
            let labels = resource.labels_of(&[own]).unwrap();
            assert_eq!(labels.to_string(), "job=api k8s_pod_name=p zone=own ");
        });
    }

    #[test]
    fn target_info_has_the_rest_of_the_resource() {
        let rest = [("host.name", "h"), ("job", "shadowed"), (SERVICE_NAME, "api")];
        with_resource(&rest, &["host.name"], |resource| {
            assert_eq!(resource.target_info().unwrap().to_string(), "host_name=h job=api ");
        });
        with_resource(&[("host.name", "h")], &[], |resource| {
            assert_eq!(resource.target_info(), None, "nothing to join with");
        });
    }

    #[test]
    fn a_resource_that_is_too_large_is_refused() {
        let many: Vec<_> = (0..=LABELS_MAX).map(|_| ("a", "x")).collect();
        let bytes = resource(&many);
        let read = |bytes: &[u8]| {
            Resource::read(Message { bytes, base: 0 }, &Settings::default()).map(|_| ()).unwrap_err()
        };
        assert_eq!(read(&bytes), Fault::Point(PointError::TooLarge));
        assert_eq!(read(&vec![0; POINT_BYTES_MAX + 1]), Fault::Point(PointError::TooLarge));
    }
}

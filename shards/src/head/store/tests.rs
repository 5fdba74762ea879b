use super::*;
use crate::head::Sweep;

const RULES: Rules = Rules::replay(7_200_000);

#[test]
fn series_are_found_by_key_and_read_by_range() {
    let mut head = Head::default();
    let key = |number: u128| SeriesKey(number | number << 64);
    for number in 0..1000u32 {
        let value = number.to_string();
        let labels = [("__name__", "up"), ("instance", value.as_str())];
        let series = head.create(key(number.into()), "team", &labels).unwrap();
        for step in 0..200 {
            head.append(series, step * 1000, f64::from(number), &RULES, &()).unwrap();
        }
    }
    assert_eq!(head.find(key(77)), Some(SeriesIndex(77)));
    assert_eq!(head.find(key(1000)), None);
    let tenant = Arc::from("team");
    let read = head.read(&tenant, 77, 119_500, 130_000, false).unwrap();
    assert_eq!(read.labels.get("instance"), Some("77"));
    assert_eq!(read.chunks.len(), 1);
    assert_eq!((read.chunks[0].min_ms, read.chunks[0].max_ms), (120_000, 199_000));
    assert_eq!(head.read(&tenant, 77, 0, 200_000, false).unwrap().chunks.len(), 2);
    assert!(head.read(&tenant, 77, 200_000, 300_000, false).is_none());
    assert!(head.read(&tenant, 77, 0, 0, true).unwrap().chunks.is_empty());
    let tenants = head.tenants();
    assert_eq!((tenants.len(), &tenants[0].name, tenants[0].series), (1, &tenant, 1000));
    assert_eq!(head.tenant_label_values("team", "instance", 0, 2000).0.len(), 1000);
    assert_eq!(head.tenant_label_values("team", "instance", 997, 2).0, ["997", "998"]);
    assert!(head.tenant_label_values("team", "instance", 1001, 2).0.is_empty());
    assert!(head.tenant_label_values("team", "pod", 0, 2000).0.is_empty());
    assert!(head.tenant_label_names("nobody").is_empty());
}

#[test]
fn a_number_of_the_wal_that_changed_hands_belongs_to_the_later_series() {
    let mut head = Head::default();
    head.create_at(0, SeriesKey(1), "a", &[("__name__", "old"), ("job", "x")]).unwrap();
    head.create_at(1, SeriesKey(2), "a", &[("__name__", "other"), ("job", "x")]).unwrap();
    head.replay(SeriesIndex(0), 10, 1.0, 7_200_000).unwrap();
    head.create_at(0, SeriesKey(3), "b", &[("__name__", "new"), ("job", "x")]).unwrap();
    head.create_at(0, SeriesKey(3), "b", &[("__name__", "new"), ("job", "x")]).unwrap();
    head.replay(SeriesIndex(0), 20, 2.0, 7_200_000).unwrap();
    assert!(head.create_at(3, SeriesKey(4), "b", &[("__name__", "gap")]).is_err());
    head.finish_replay().unwrap();
    assert_eq!(head.find(SeriesKey(1)), None);
    assert_eq!(head.labels(0).get("__name__"), Some("new"));
    let tenants: Vec<_> = head.tenants().into_iter().map(|tenant| (tenant.name, tenant.series)).collect();
    assert!(tenants.contains(&("a".into(), 1)) && tenants.contains(&("b".into(), 1)), "{tenants:?}");
    assert_eq!(head.tenant_label_values("a", "__name__", 0, 10).0, ["other"]);
    assert_eq!(head.read(&Arc::from("b"), 0, 0, 100, false).unwrap().chunks[0].min_ms, 20);
}

#[test]
fn labels_of_the_wal_that_came_back_belong_to_the_later_number() {
    let mut head = Head::default();
    let labels = [("__name__", "up"), ("job", "x")];
    head.create_at(0, SeriesKey(1), "a", &labels).unwrap();
    head.create_at(1, SeriesKey(2), "a", &[("__name__", "other"), ("job", "x")]).unwrap();
    head.replay(SeriesIndex(0), 10, 1.0, 7_200_000).unwrap();
    head.create_at(2, SeriesKey(1), "a", &labels).unwrap();
    head.create_at(0, SeriesKey(3), "a", &[("__name__", "new")]).unwrap();
    head.create_at(0, SeriesKey(1), "a", &labels).unwrap();
    head.replay(SeriesIndex(0), 20, 2.0, 7_200_000).unwrap();
    head.finish_replay().unwrap();
    head.audit().unwrap();
    assert_eq!((head.find(SeriesKey(1)), head.find(SeriesKey(3))), (Some(SeriesIndex(0)), None));
    assert_eq!((head.live_series_count(), head.vacant_count()), (2, 1));
    assert_eq!(head.read(&Arc::from("a"), 0, 0, 100, false).unwrap().chunks[0].min_ms, 20);
}

#[test]
fn tenants_whose_number_of_series_changed_are_told_once() {
    let mut head = Head::default();
    for (number, tenant) in ["a", "b", "a", "c"].iter().enumerate() {
        let number = number as u128;
        head.create(SeriesKey(number), tenant, &[("n", number.to_string().as_str())]).unwrap();
    }
    let told = |head: &mut Head| {
        let changed = head.take_changed_tenants(2).into_iter();
        let told = changed.map(|tenant| (tenant.name.to_string(), tenant.series, tenant.was_cut()));
        told.collect::<Vec<_>>()
    };
    let mut changed = told(&mut head);
    assert_eq!(changed.len(), 2);
    changed.extend(told(&mut head));
    changed.sort();
    assert_eq!(changed, [("a".into(), 2, false), ("b".into(), 1, false), ("c".into(), 1, false)]);
    head.set_bounds("a", 0, 0).unwrap();
    assert!(head.take_changed_tenants(2).is_empty());
    let mut sweep = Sweep::new(&head, "a", 0).unwrap();
    while !sweep.step(&mut head).unwrap() {}
    assert_eq!(told(&mut head), [("a".into(), 0, true)]);
}

#[test]
fn a_tenant_that_was_cut_is_remembered_and_one_that_never_had_anything_is_not() {
    let mut head = Head::default();
    let series = head.create(SeriesKey(1), "cut", &[("n", "1")]).unwrap();
    head.append(series, 500, 1.0, &Rules::replay(7_200_000), &()).unwrap();
    head.note("cut", 1, 500, 500);
    head.take_changed_tenants(10);
    let bytes = head.size_bytes();
    head.tenant_symbol("blank").unwrap();
    let known = |head: &Head| head.tenants().len();
    assert_eq!((known(&head), head.forget_blank_tenants(10), known(&head)), (2, 1, 1));
    assert!(head.size_bytes() <= bytes + 64);
    head.set_bounds("frozen", 700, i64::MIN).unwrap();
    head.set_bounds("cut", 1000, 1000).unwrap();
    let mut sweep = Sweep::new(&head, "cut", 1000).unwrap();
    while !sweep.step(&mut head).unwrap() {}
    head.take_changed_tenants(10);
    for _ in 0..3 {
        assert_eq!((head.forget_blank_tenants(10), known(&head)), (0, 2));
    }
    let floor_ms = |tenant| head.rules(&TimeWindows::default(), tenant, 0).floor_ms;
    assert_eq!((floor_ms("cut"), floor_ms("frozen")), (1000, 700), "what was cut is not taken again");
    assert!(floor_ms("new") < 0 && floor_ms("blank") < 0, "a cut is of one tenant only");
    head.audit().unwrap();
}
